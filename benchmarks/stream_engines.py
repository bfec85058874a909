"""The two engines side by side on one set; and large images through a small object store."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.stream_sets import CPUS, IMAGE, OWN, ROOT, environment, say, tables

ENGINE_ROWS, QUICK_ROWS = 60_000, 6_000
STORE_BYTES = 200 << 20
LARGE, QUICK_LARGE, SHARD = 10_000, 120, 20
SIDE = 1292  # of a square of 5 MB


def engines(folder: Path, quick: bool) -> dict[str, Any]:
    """One set of small pictures through either engine: the time to the end and to what is kept."""
    num_rows = QUICK_ROWS if quick else ENGINE_ROWS
    images = tables(folder / "engines", num_rows)
    found: dict[str, tuple[float, float]] = {}
    for option, kept in (("--no-stream", "parts/predict"), ("--stream", "scores")):
        output = folder / f"out{option}"
        command = [sys.executable, str(ROOT / "jobs/predict.py"), option, "--input", str(images)]
        command += ["--detector", str(folder / "own.py"), "--cpus", str(CPUS)]
        start, first = time.perf_counter(), 0.0
        with (folder / "log").open("wb") as log:
            job = subprocess.Popen(
                [*command, "--output", str(output)], env=environment(), stdout=log, stderr=log
            )
        while job.poll() is None:
            if not first and any((output / kept).glob("[!.]*.parquet")):
                first = time.perf_counter() - start
            time.sleep(0.05)
        if job.returncode:
            raise SystemExit((folder / "log").read_text()[-2000:])
        found[option] = time.perf_counter() - start, first
        say(
            f"{option:11} {num_rows / found[option][0]:8,.0f} rows/s; {found[option][0]:.1f} s to "
            f"the end, {first:.1f} s to the first rows kept"
        )
    listed, streamed = found["--no-stream"], found["--stream"]
    return {
        "stream_over_map_rows": round(listed[0] / streamed[0], 3),
        "first_kept_s": {"map_rows": round(listed[1], 1), "stream": round(streamed[1], 1)},
    }


def store(folder: Path, quick: bool) -> dict[str, Any]:
    """Images of 5 MB in tables, through an object store of 200 MB: what is spilled to disk."""
    count = QUICK_LARGE if quick else LARGE
    images = large_tables(folder / "large", count)
    command = [sys.executable, "-m", "benchmarks.stream_engines", str(images), str(folder / "out")]
    ran = subprocess.run(
        command, env=environment(), cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    say(f"{count:,} images of 5 MB: {told}")
    return {"store_spilled_files": told["spilled"], "store_rows": told["rows"]}


def large_tables(folder: Path, count: int) -> Path:
    """Tables of noise; all are one file on disk, under as many names."""
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "image.bmp")
    data = (folder / "image.bmp").read_bytes()
    (folder / "image.bmp").unlink()
    rows = [{"bytes": data, "path": f"{at:03}.bmp"} for at in range(SHARD)]
    first = folder / "train-00000.parquet"
    pq.write_table(
        pa.table({"image": pa.array(rows, IMAGE)}), first, row_group_size=5, compression="none",
        use_dictionary=False,
    )  # fmt: skip
    for at in range(1, count // SHARD):
        os.link(first, folder / f"train-{at:05}.parquet")
    return folder


def through_a_small_store(images: str, output: str) -> None:
    """Predict in a session of `STORE_BYTES`; rows, and files that Ray spilled meanwhile."""
    import ray

    from rayapp.jobs.predict import predict
    from rayapp.predict.settings import PredictSettings

    quiet = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
    ray.init(address="local", num_cpus=CPUS, object_store_memory=STORE_BYTES, **quiet)
    session = Path(ray.nodes()[0]["RayletSocketName"]).parents[1]
    spilled: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            there = session.glob("ray_spilled_objects*/*")
            spilled.update(one.name for one in there if one.is_file())

    thread = threading.Thread(target=watch)
    thread.start()
    with tempfile.TemporaryDirectory() as name:
        own = Path(name) / "own.py"
        own.write_text(OWN)
        start = time.perf_counter()
        run = predict(
            PredictSettings(detector=str(own), input=images, output=output, gallery=0, stream=True)
        )
    over.set()
    thread.join()
    seconds = round(time.perf_counter() - start, 1)
    print(json.dumps({"rows": run.counts["scored"], "spilled": len(spilled), "seconds": seconds}))


if __name__ == "__main__":
    through_a_small_store(*sys.argv[1:])
