"""Kill the download where it hurts: worker and driver, at random moments; then run it again.

Faults 40 and 41. The final tree is identical, no partial file has a final name, and the bytes of
all runs together are hardly more than one run needs.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.doubles.server import Server, files_handler
from tests.download.helpers import jpeg, make_zip, write_list

ROOT = Path(__file__).resolve().parents[2]
FILE_BYTES = 110_000
pytestmark = pytest.mark.drill


def padded(number: int) -> bytes:
    """A JPEG of its own, of 110 kB."""
    content = jpeg(number % 50) + number.to_bytes(8, "little")
    return content + bytes(FILE_BYTES - len(content))


class Drill:
    """A server, a catalogue, a list, and the job as a process of its own."""

    def __init__(self, server: Server, tmp_path: Path, names: list[str]):
        self.server, self.root = server, tmp_path / "root"
        book = tmp_path / "sources.yaml"
        book.write_text(
            "origins: {http: {gap_bytes: 0}}\nsources:\n  photos:\n    about: photos\n"
            f"    at: ['{server.url}/a.zip']\n    paths: {{train2017/: train2017/}}\n"
        )
        self.command = [sys.executable, str(ROOT / "jobs/download.py"), "--root", str(self.root)]
        self.command += ["--catalogue", str(book), "--sources", "photos", "--cpus", "2"]
        self.command += ["--workers", "1", "--threads", "4"]
        self.command += ["--annotations", write_list(tmp_path / "list.txt", names)]
        self.log = tmp_path / "log.txt"

    def start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def finish(self) -> int:
        return self.start().wait(600)


def fetcher_of(driver: int) -> int | None:
    """The process that fetches, among the descendants of the driver."""
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and b"Fetcher" in (folder / "cmdline").read_bytes():
                ancestor = int(folder.name)
                while ancestor > 1:
                    status = Path(f"/proc/{ancestor}/stat").read_text()
                    ancestor = int(status.rpartition(")")[2].split()[1])
                    if ancestor == driver:
                        return int(folder.name)
        except OSError:  # gone meanwhile
            continue
    return None


def kill_at(drill: Drill, kinds: list[str], seed: int) -> None:
    """Run, kill at a random number of bytes, run again, …; the last run is let through."""
    rng = random.Random(seed)
    for kind in kinds:
        process = drill.start()
        threshold = drill.server.bytes_sent + rng.randint(300_000, 3_000_000)
        while process.poll() is None and drill.server.bytes_sent < threshold:
            time.sleep(0.01)
        if process.poll() is not None:
            return
        if kind == "driver":
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            _settle(drill)
        else:
            victim = fetcher_of(process.pid)
            assert victim, "no process fetches"
            os.kill(victim, signal.SIGKILL)
            assert process.wait(600) == 0, drill.log.read_text()[-3000:]


def _settle(drill: Drill) -> None:
    """Wait until the orphaned worker is gone too, or it would fetch beside the next run."""
    before = -1
    while before != drill.server.bytes_sent:
        before = drill.server.bytes_sent
        time.sleep(2)


def run_drill(tmp_path: Path, num_wanted: int, kinds: list[str], seed: int) -> float:
    """The bytes of all runs over those needed; everything else is asserted here."""
    everything = {f"train2017/{n:06}.jpg": padded(n) for n in range(3 * num_wanted)}
    names = list(everything)[::3]  # sparse: a dense archive is read whole
    with Server(files_handler({"/a.zip": make_zip(everything)}), latency_s=0.002) as server:
        drill = Drill(server, tmp_path, names)
        kill_at(drill, kinds, seed)
        assert drill.finish() == 0, drill.log.read_text()[-3000:]
        moved = server.bytes_sent
    tree = {
        str(path.relative_to(drill.root)): path.read_bytes()
        for path in drill.root.rglob("*.jpg")
        if ".download" not in path.parts
    }
    assert tree == {name: everything[name] for name in names}
    assert pq.read_table(drill.root / "manifest.parquet").num_rows == num_wanted
    assert (drill.root / "misses.csv").read_text() == "path,source,reason\n"
    directory = 3 * num_wanted * (46 + 20) + 22
    return moved / (num_wanted * FILE_BYTES + directory)


def test_40_41_a_killed_worker_and_a_killed_driver(tmp_path: Path) -> None:
    ratio = run_drill(tmp_path, 400, ["driver", "worker"], seed=1)
    assert ratio <= 1.05


@pytest.mark.slow
def test_40_41_ten_kills(tmp_path: Path) -> None:
    ratio = run_drill(tmp_path, 1_500, ["driver", "worker", "driver", "driver", "worker"] * 2, 2)
    assert ratio <= 1.05
