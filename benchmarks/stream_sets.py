"""Large sets of tiny pictures, and `imaginet predict` at work on them in a process of its own."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from rayapp.dataset.scores import SCORES_FOLDER

ROOT = Path(__file__).resolve().parents[1]
CPUS = 2
OWN = "def predict(images):\n    return [float(i[0, 0, 0]) / 255 for i in images]\n"
SHARD_ROWS, GROUP_ROWS = 100_000, 10_000
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_SAY_EVERY_S = 20.0
_DISTINCT = 997


class Predict:
    """`imaginet predict` streaming a set, in a process group of its own; it says how far it is.

    Args:
        folder: where `own.py` lies, the detector, and what the job says.
        images: the set.
        output: of the job.
        address: of a cluster; its own Ray if none.
    """

    def __init__(self, folder: Path, images: Path, output: Path, address: str = "") -> None:
        self.output, self._start = output, time.perf_counter()
        command = [sys.executable, str(ROOT / "jobs/predict.py"), "--stream"]
        command += ["--detector", str(folder / "own.py"), "--input", str(images)]
        command += ["--output", str(output), *(() if address else ("--cpus", str(CPUS)))]
        self._log = folder / f"{output.name}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment(address), start_new_session=True, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        """Of the driver."""
        return self._process.pid

    def running(self) -> Iterator[None]:
        """Ticks while it runs, some a second; a line now and then says how many rows are there."""
        said = self._start
        while self._process.poll() is None:
            yield
            time.sleep(0.1)
            if time.perf_counter() - said > _SAY_EVERY_S:
                said = time.perf_counter()
                say(f"  {said - self._start:4.0f} s: {rows_written(self.output):,} rows written")

    def until(self, happened: Callable[[], bool]) -> None:
        """Return once it happened."""
        for _ in self.running():
            if happened():
                return
        raise SystemExit(f"predict ended before: {self._log.read_text()[-2000:]}")

    def kill(self) -> int:
        """SIGKILL the driver and what is in its group; rows that are written then."""
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        time.sleep(5)  # Ray's processes see that the driver is gone
        return rows_written(self.output)

    def finish(self, num_rows: int) -> float:
        """Seconds from its start to its end; every row is there once."""
        for _ in self.running():
            pass
        seconds = time.perf_counter() - self._start
        if self._process.returncode != 0:
            raise SystemExit(f"predict: {self._log.read_text()[-2000:]}")
        check_rows(self.output, num_rows)
        return seconds


def environment(address: str = "") -> dict[str, str]:
    """Of a process that uses this tree's package."""
    kept = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    own = {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return kept | own | ({"RAY_ADDRESS": address} if address else {})


def say(text: str) -> None:
    """A line of progress."""
    print(text, flush=True)


def rows_written(output: Path) -> int:
    """Rows of the parts that are there."""
    parts = (output / SCORES_FOLDER).glob("*.parquet")
    return sum(pq.read_metadata(part).num_rows for part in parts)


def check_rows(output: Path, num_rows: int) -> None:
    """Every row is there, once."""
    numbers = [
        pq.read_table(part, columns=["row"])["row"].to_numpy()
        for part in (output / SCORES_FOLDER).glob("*.parquet")
    ]
    rows = np.concatenate(numbers)
    if not len(rows) == len(np.unique(rows)) == num_rows:
        raise SystemExit(
            f"{output}: {len(rows):,} rows, {len(np.unique(rows)):,} of them different"
        )


def tables(folder: Path, num_rows: int) -> Path:
    """Parquet tables as Hugging Face lays them out."""
    folder.mkdir()
    made = pictures()
    for at, (first, end) in enumerate(_cut(num_rows)):
        images = [{"bytes": made[n % _DISTINCT], "path": f"{n:08}.png"} for n in range(first, end)]
        labels = pa.array(np.arange(first, end) % 2, pa.int64())
        table = pa.table({"image": pa.array(images, IMAGE), "label": labels})
        pq.write_table(table, folder / f"train-{at:05}.parquet", row_group_size=GROUP_ROWS)
    say(f"{folder.name}: {num_rows:,} rows of {at + 1} tables")
    return folder


def tars(folder: Path, num_rows: int) -> Path:
    """WebDataset tars."""
    folder.mkdir()
    made = pictures()
    for at, (first, end) in enumerate(_cut(num_rows)):
        with tarfile.open(folder / f"{at:06}.tar", "w") as tar:
            for n in range(first, end):
                info = tarfile.TarInfo(f"{n:08}.png")
                info.size = len(made[n % _DISTINCT])
                tar.addfile(info, io.BytesIO(made[n % _DISTINCT]))
    say(f"{folder.name}: {num_rows:,} rows of {at + 1} tars")
    return folder


def pictures() -> list[bytes]:
    """Some PNG files of about a hundred bytes."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(_DISTINCT):
        sink = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).save(sink, "PNG")
        made.append(sink.getvalue())
    return made


def _cut(num_rows: int) -> Iterator[tuple[int, int]]:
    size = max(1, min(SHARD_ROWS, num_rows // 4))
    yield from ((at, min(at + size, num_rows)) for at in range(0, num_rows, size))
