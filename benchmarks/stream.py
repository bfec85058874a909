"""Rows at any size: what the driver holds, what the engine costs, and what resuming saves.

python benchmarks/stream.py [--quick] [--only memory|wds|speed|resume]

Two CPUs, a detector that costs next to nothing, pictures of 100 bytes: the engine shows.

`driver_growth_mb`, `wds_driver_growth_mb`: how much more memory the job's own process holds at its
peak for many rows than for few, of Parquet tables and of WebDataset tars. `stream_efficiency`: rows
a second of the whole job beside a script of a dozen lines (`read_parquet → map_batches →
write_parquet`, the same work on a batch, as many workers), one after the other. `resume_share`: of
the full run's time, what the same command takes after it was killed with half of the rows written.
`rows_exact`: whether every row came out once, each time.
"""

import argparse
import io
import json
import logging
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
CPUS = 2
OWN = "def predict(images):\n    return [float(i[0, 0, 0]) / 255 for i in images]\n"
ROWS, FEW = 3_000_000, 100_000
WDS_ROWS, WDS_FEW = 300_000, 30_000
SPEED_ROWS, RESUME_ROWS = 3_000_000, 1_000_000
QUICK = 6_000
SHARD_ROWS = 100_000
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rows: whether it runs")
    parser.add_argument("--only", choices=["memory", "wds", "speed", "resume"])
    given = parser.parse_args()
    parts = {"memory": memory, "wds": wds, "speed": speed, "resume": resume}
    chosen = [given.only] if given.only else ["speed"] if given.quick else list(parts)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "own.py").write_text(OWN)
        for part in chosen:
            figures |= parts[part](folder, given.quick)
    print(json.dumps(figures))


def memory(folder: Path, quick: bool) -> dict[str, Any]:
    """Peak memory of the driver, few rows and many."""
    few, many = (QUICK // 3, QUICK) if quick else (FEW, ROWS)
    peaks = [peak_mb(folder, tables(folder / f"t{n}", n), n) for n in (few, many)]
    print(f"Parquet: driver {peaks[0]:.0f} MB at {few:,} rows, {peaks[1]:.0f} MB at {many:,}")
    return {"driver_growth_mb": round(peaks[1] - peaks[0], 1)}


def wds(folder: Path, quick: bool) -> dict[str, Any]:
    """The same, of tars."""
    few, many = (QUICK // 3, QUICK) if quick else (WDS_FEW, WDS_ROWS)
    peaks = [peak_mb(folder, tars(folder / f"w{n}", n), n) for n in (few, many)]
    print(f"tars: driver {peaks[0]:.0f} MB at {few:,} rows, {peaks[1]:.0f} MB at {many:,}")
    return {"wds_driver_growth_mb": round(peaks[1] - peaks[0], 1)}


def peak_mb(folder: Path, images: Path, num_rows: int) -> float:
    output = folder / f"out-{images.name}"
    job = started(folder, images, output)
    peak = 0.0
    while job.poll() is None:
        peak = max(peak, _peak_of(job.pid))
        time.sleep(0.2)
    _check(job, output, num_rows)
    return peak


def _peak_of(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    found = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(found[0]) / 1e3 if found else 0.0


def speed(folder: Path, quick: bool) -> dict[str, Any]:
    """Rows a second, beside the plain script, start and end of both included."""
    num_rows = QUICK if quick else SPEED_ROWS
    images = tables(folder / "speed", num_rows)
    taken: dict[str, float] = {"plain": 0.0, "ours": 0.0}
    for way in taken:
        output = folder / way
        start = time.perf_counter()
        if way == "plain":
            command = [sys.executable, __file__, "plain", str(images), str(output), OWN]
            subprocess.run(command, check=True, env=environment(), cwd=ROOT)
        else:
            job = started(folder, images, output)
            job.wait()
            _check(job, output, num_rows)
        taken[way] = time.perf_counter() - start
        print(f"{way:6} {num_rows / taken[way]:8,.0f} rows/s", flush=True)
    return {"stream_efficiency": round(taken["plain"] / taken["ours"], 3)}


def resume(folder: Path, quick: bool) -> dict[str, Any]:
    """The time of a run that goes on after half, as a share of a full run's."""
    num_rows = QUICK if quick else RESUME_ROWS
    images = tables(folder / "resume", num_rows)
    start = time.perf_counter()
    whole = started(folder, images, folder / "whole")
    whole.wait()
    full_s = time.perf_counter() - start
    _check(whole, folder / "whole", num_rows)
    output = folder / "resumed"
    job = started(folder, images, output)
    while rows_written(output) < num_rows / 2:
        assert job.poll() is None, "ended before half of it was written"
        time.sleep(0.1)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    done = rows_written(output)
    time.sleep(5)  # Ray's processes see that the driver is gone
    start = time.perf_counter()
    again = started(folder, images, output)
    again.wait()
    share = (time.perf_counter() - start) / full_s
    _check(again, output, num_rows)
    print(
        f"full run {full_s:.1f} s; killed with {done:,} rows written; resumed in {share:.2f} of it"
    )
    return {"resume_share": round(share, 3), "rows_exact": True}


def rows_written(output: Path) -> int:
    """Rows of the parts that are there."""
    parts = (output / "scores").glob("*.parquet")
    return sum(pq.read_metadata(part).num_rows for part in parts)


def started(folder: Path, images: Path, output: Path) -> "subprocess.Popen[bytes]":
    """The job at work, in a process group of its own."""
    command = [sys.executable, str(ROOT / "jobs/predict.py"), "--detector", str(folder / "own.py")]
    command += ["--input", str(images), "--output", str(output), "--cpus", str(CPUS), "--stream"]
    null = subprocess.DEVNULL
    return subprocess.Popen(
        command, env=environment(), start_new_session=True, stdout=null, stderr=null
    )


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    own = {"RAY_AUTH_MODE": "disabled", "RAY_DATA_PARQUET_FOOTER_NUM_ACTORS": "1"}
    return kept | own | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def _check(job: "subprocess.Popen[bytes]", output: Path, num_rows: int) -> None:
    """Every row is there, once."""
    assert job.returncode == 0, f"predict ended with {job.returncode}"
    rows = ds.dataset(output / "scores").to_table(columns=["row"])["row"].to_numpy()
    assert len(rows) == len(np.unique(rows)) == num_rows, f"{len(rows):,} rows"


def pictures() -> list[bytes]:
    """Some PNG files of about a hundred bytes."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(997):
        sink = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).save(sink, "PNG")
        made.append(sink.getvalue())
    return made


def tables(folder: Path, num_rows: int) -> Path:
    """Parquet tables as Hugging Face lays them out."""
    folder.mkdir()
    made = pictures()
    for at, numbers in enumerate(_cut(num_rows)):
        images = [{"bytes": made[n % len(made)], "path": f"{n:08}.png"} for n in numbers]
        labels = pa.array([n % 2 for n in numbers], pa.int64())
        table = pa.table({"image": pa.array(images, IMAGE), "label": labels})
        pq.write_table(table, folder / f"train-{at:05}.parquet", row_group_size=10_000)
    return folder


def tars(folder: Path, num_rows: int) -> Path:
    """WebDataset tars."""
    folder.mkdir()
    made = pictures()
    for at, numbers in enumerate(_cut(num_rows)):
        with tarfile.open(folder / f"{at:06}.tar", "w") as tar:
            for n in numbers:
                info = tarfile.TarInfo(f"{n:08}.png")
                info.size = len(made[n % len(made)])
                tar.addfile(info, io.BytesIO(made[n % len(made)]))
    return folder


def _cut(num_rows: int) -> Iterator[range]:
    size = max(1, min(SHARD_ROWS, num_rows // 4))
    yield from (range(at, min(at + size, num_rows)) for at in range(0, num_rows, size))


def plain(images: str, output: str, own: str) -> None:
    """The script that anybody would write."""
    import ray
    import ray.data

    from rayapp.dataset import scores
    from rayapp.predict.score_rows import PredictRows, ScorerSpec
    from rayapp.predict.user_detector import UserDetector
    from rayapp.storage.uris import open_store

    schema = pa.schema([*scores.schema(), ("label", pa.int64())])

    class Score:
        def __init__(self) -> None:
            detector = UserDetector(f"{output}.py", own.encode())
            self.work = PredictRows(ScorerSpec(detector), open_store(images), 1)
            self.work.setup()

        def __call__(self, batch: pa.Table) -> pa.Table:
            rows = [
                {"id": one["image"]["path"], "path": one["image"]["path"], "container": "",
                 "url": " ", "data": one["image"]["bytes"], "label": one["label"]}
                for one in batch.to_pylist()
            ]  # fmt: skip
            found: list[dict[str, Any]] = []
            for at in range(0, len(rows), 64):
                found += self.work.batch(rows[at : at + 64])
            return pa.Table.from_pylist(found, schema=schema)

    quiet = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
    ray.init(address="local", num_cpus=CPUS, object_store_memory=1 << 30, **quiet)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    workers = ray.data.ActorPoolStrategy(min_size=1, max_size=CPUS, initial_size=CPUS)
    found = ray.data.read_parquet(images).map_batches(
        # With a CPU each, the workers would leave none for the tasks that read: it would stand.
        Score,
        batch_format="pyarrow",
        batch_size=1024,
        compute=workers,
        num_cpus=0.5,
    )
    found.write_parquet(output)


def run(arguments: Sequence[str]) -> None:
    """The plain script in a process of its own, or the benchmark."""
    if arguments[:1] == ["plain"]:
        plain(*arguments[1:])
    else:
        main()


if __name__ == "__main__":
    run(sys.argv[1:])
