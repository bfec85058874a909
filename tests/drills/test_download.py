"""Kill the download where it hurts: worker, driver, node, disk, credentials; then run it again.

Faults 40 to 44 and 46. The final tree is identical, no partial file has a final name at any time,
and the bytes of all runs together are hardly more than one run needs.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rayapp.storage.store import PARTIAL_SUFFIX
from tests.doubles.front import front_of
from tests.doubles.s3 import S3
from tests.doubles.server import Reply, Request, Server, files_handler
from tests.download.archives.test_streams import make_tar
from tests.download.helpers import jpeg, make_zip, write_list

ROOT = Path(__file__).resolve().parents[2]
FILE_BYTES = 110_000
pytestmark = pytest.mark.drill


def padded(number: int) -> bytes:
    """A JPEG of its own, of 110 kB."""
    content = jpeg(number % 50) + number.to_bytes(8, "little")
    return content + bytes(FILE_BYTES - len(content))


def many(num_wanted: int) -> tuple[dict[str, bytes], list[str]]:
    """(all members of an archive, every third of their names); a dense one would be read whole."""
    everything = {f"train2017/{n:06}.jpg": padded(n) for n in range(3 * num_wanted)}
    return everything, list(everything)[::3]


class Drill:
    """A server, a catalogue, a list, and the job as a process of its own."""

    def __init__(
        self, server: Server, tmp_path: Path, names: list[str], root: str = "", archive: str = ""
    ):
        self.server, self.root = server, Path(root or tmp_path / "root")
        self.names = names
        book = tmp_path / "sources.yaml"
        book.write_text(
            "origins: {http: {gap_bytes: 0}}\nsources:\n  photos:\n    about: photos\n"
            f"    at: ['{server.url}/{archive or 'a.zip'}']\n"
            "    paths: {train2017/: train2017/}\n"
        )
        self.command = [sys.executable, str(ROOT / "jobs/download.py")]
        self.command += ["--output", root or str(self.root)]
        self.command += ["--catalogue", str(book), "--sources", "photos", "--cpus", "2"]
        self.command += ["--num-workers", "1", "--threads", "4"]
        self.command += ["--annotations", write_list(tmp_path / "list.txt", names)]
        self.log = tmp_path / "log.txt"

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command,
                env={**kept, "PYTHONPATH": str(ROOT), **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def finish(self, **environment: str) -> int:
        return self.start(**environment).wait(600)

    def told(self) -> str:
        return self.log.read_text()

    def wait_for_bytes(self, process: subprocess.Popen[bytes], num_bytes: int) -> None:
        while self.server.bytes_sent < num_bytes:
            assert process.poll() is None, f"it ended too soon:\n{self.told()[-2000:]}"
            time.sleep(0.005)

    def tree(self) -> dict[str, bytes]:
        """Every file that has a final name, whatever it is called."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in (self.root / "train2017").rglob("*")
            if path.is_file() and not path.name.endswith(PARTIAL_SUFFIX)
        }

    def assert_done(self, everything: dict[str, bytes]) -> None:
        assert self.tree() == {name: everything[name] for name in self.names}
        assert pq.read_table(self.root / "manifest.parquet").num_rows == len(self.names)
        assert (self.root / "misses.csv").read_text() == "path,source,reason\n"


def process_of(driver: int, title: bytes) -> int | None:
    """The process with `title` in its command line, among the descendants of the driver."""
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and title in (folder / "cmdline").read_bytes():
                ancestor = int(folder.name)
                while ancestor > 1:
                    status = Path(f"/proc/{ancestor}/stat").read_text()
                    ancestor = int(status.rpartition(")")[2].split()[1])
                    if ancestor == driver:
                        return int(folder.name)
        except OSError:  # gone meanwhile
            continue
    return None


def kill(drill: Drill, process: subprocess.Popen[bytes], kind: str) -> None:
    """SIGKILL the driver, and see its worker go too; or the worker, and see it come back."""
    deadline = time.monotonic() + 30
    while not (worker := process_of(process.pid, b"_Unpacked")):
        assert time.monotonic() < deadline, "no process fetches"
    if kind == "worker":
        os.kill(worker, signal.SIGKILL)
        return
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker}").exists():  # it would fetch beside the next run
        assert time.monotonic() < deadline, "the worker outlives its driver"
        time.sleep(0.05)


def run_drill(tmp_path: Path, num_wanted: int, runs: list[list[str]], seed: int) -> float:
    """The bytes of all runs over those needed; everything else is asserted here.

    Args:
        tmp_path: for root and log.
        num_wanted: images of 110 kB.
        runs: the kills of each run, at random moments; a run ends with its first killed driver.
        seed: of the moments.
    """
    everything, names = many(num_wanted)
    rng = random.Random(seed)
    num_kills = sum(len(kills) for kills in runs)
    with Server(files_handler({"/a.zip": make_zip(everything)}), latency_s=0.05) as server:
        drill = Drill(server, tmp_path, names)
        each = num_wanted * FILE_BYTES // (num_kills + 1)
        at = 3 * num_wanted * 66  # the central directory
        for kills in runs:
            process = drill.start()
            for kind in kills:
                drill.wait_for_bytes(process, at + rng.randint(each // 20, each * 9 // 10))
                kill(drill, process, kind)
                at = server.bytes_sent  # not before: what was under way came meanwhile
                for name, content in drill.tree().items():
                    assert content == everything[name], f"{name} is not whole"
            if "driver" not in kills:
                assert process.wait(600) == 0, drill.told()[-3000:]
        if "driver" in runs[-1]:
            assert drill.finish() == 0, drill.told()[-3000:]
        moved = server.bytes_sent
    drill.assert_done(everything)
    return moved / (num_wanted * FILE_BYTES + 3 * num_wanted * (46 + 20) + 22)


@pytest.mark.first
def test_40_a_killed_worker(tmp_path: Path) -> None:
    assert run_drill(tmp_path, 500, [["worker"]], seed=1) <= 1.05


@pytest.mark.slow
def test_40_41_ten_kills_of_workers_and_drivers(tmp_path: Path) -> None:
    assert run_drill(tmp_path, 2_000, [["worker", "driver"]] * 5, seed=4) <= 1.05


def test_41_a_stream_goes_on_where_it_was(tmp_path: Path) -> None:
    """A tgz has no directory: a killed run goes on at its last resume point."""
    everything = {
        f"train2017/{n:06}.jpg": jpeg(n % 50) + random.Random(n).randbytes(FILE_BYTES)
        for n in range(1500)
    }
    archive = gzip.compress(make_tar(everything), 1)
    with Server(files_handler({"/a.tgz": archive}), latency_s=0.05) as server:
        drill = Drill(server, tmp_path, list(everything)[::2], archive="a.tgz")
        process = drill.start()
        drill.wait_for_bytes(process, int(0.7 * len(archive)))
        kill(drill, process, "driver")
        before = server.bytes_sent
        assert drill.finish() == 0, drill.told()[-3000:]
        assert server.bytes_sent - before < 0.7 * len(archive)
    drill.assert_done(everything)


def test_42_a_lost_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")
    everything, names = many(600)
    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        with Server(files_handler({"/a.zip": make_zip(everything)}), latency_s=0.02) as server:
            drill = Drill(server, tmp_path, names)
            drill.command[drill.command.index("--num-workers") + 1] = "4"  # on both nodes
            process = drill.start(RAY_ADDRESS=cluster.address)
            drill.wait_for_bytes(process, 12_000_000)
            cluster.remove_node(node, allow_graceful=False)
            assert process.wait(600) == 0, drill.told()[-3000:]
    finally:
        cluster.shutdown()
    drill.assert_done(everything)


@contextlib.contextmanager
def small_disk(folder: Path, *options: str) -> Iterator[Path]:
    """A file system of its own on `folder`."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(("size=8m", *options)), "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_43_a_full_disk(tmp_path: Path) -> None:
    everything, names = many(120)  # 13 MB on a disk of 8
    with (
        Server(files_handler({"/a.zip": make_zip(everything)})) as server,
        small_disk(tmp_path / "disk") as disk,
    ):
        drill = Drill(server, tmp_path, names, root=str(disk / "root"))
        assert drill.finish() == 1
        assert drill.told().splitlines()[-1] == (
            f"error: {disk}/root: No space left on device; the same command goes on from here"
        )
        assert "NOT ENOUGH" in drill.told()
        assert "Traceback" not in drill.told()
        for name, content in drill.tree().items():
            assert content == everything[name], f"{name} is not whole"
        held, sent = len(drill.tree()), server.bytes_sent
        assert held > 40
        subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
        assert drill.finish() == 0, drill.told()[-3000:]
        assert server.bytes_sent - sent < (len(names) - held + 2) * FILE_BYTES
        drill.assert_done(everything)


def test_44_a_read_only_disk(tmp_path: Path) -> None:
    everything, names = many(5)
    with (
        Server(files_handler({"/a.zip": make_zip(everything)})) as server,
        small_disk(tmp_path / "disk") as disk,
    ):
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        drill = Drill(server, tmp_path, names, root=str(disk / "root"))
        assert drill.finish() == 2
        assert drill.told() == (f"error: {disk}/root: can't be written (Read-only file system)\n")
        assert not server.requests


def test_46_credentials_that_expire_on_the_way(tmp_path: Path) -> None:
    everything, names = many(150)
    expired = b"<Error><Code>ExpiredToken</Code><Message>expired</Message></Error>"
    with (
        S3(tmp_path / "s3") as s3,
        front_of(s3.url) as front,
        Server(files_handler({"/a.zip": make_zip(everything)})) as server,
    ):
        forward, num_puts = front.handler, 0

        def expiring(request: Request) -> Reply:
            nonlocal num_puts
            num_puts += request.method == "PUT" and request.path.endswith(".jpg")
            return forward(request) if num_puts <= 40 else Reply(400, {}, expired)

        front.handler = expiring
        environment = {**s3.environment, "AWS_ENDPOINT_URL": front.url}
        drill = Drill(server, tmp_path, names, root="s3://test/root")
        assert drill.finish(**environment) == 1
        last = drill.told().splitlines()[-1]
        assert last.startswith("error: s3://test/root")
        assert last.endswith("the credentials have expired; the same command goes on from here")
        assert "Traceback" not in drill.told()
        front.handler = forward
        assert drill.finish(**environment) == 0, drill.told()[-3000:]
        wrong = {**environment, "AWS_SECRET_ACCESS_KEY": "wrong"}
        told = drill.told()
        assert drill.finish(**wrong) == 2
        assert drill.told().removeprefix(told).count("\n") == 1
        assert "the secret key is wrong" in drill.told()
