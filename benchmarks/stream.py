"""Rows at any size: what the driver holds, what the engine costs, and what resuming saves.

python benchmarks/stream.py [--quick] [--only PART]

Two CPUs, a detector that costs next to nothing, pictures of 100 bytes: the engine shows.

memory  `driver_growth_mb`: how much more memory the job's own process holds at its peak for
        3,000,000 rows of Parquet tables than for 100,000.
wds     `wds_driver_growth_mb`: the same of WebDataset tars, 300,000 rows and 30,000.
speed   `stream_efficiency`: rows a second of the whole job beside a script of a dozen lines
        (`read_parquet → map_batches → write_parquet`, the same work on a batch, as many workers),
        in turns, start and end of both included; and `stream_efficiency_running` without these.
resume  `resume_share`: of the full run's time, what the same command takes after it was killed
        with half of the rows written.
kills   five kills on one run's way: every row comes out once.
lost    one of two nodes is lost with a third of the rows written: every row comes out once.
first   `first_score_s`: seconds from the command's start to the first scores kept, of 100,000 local
        files, listed as it does by itself (100,000 at most are) and with --stream.
blocks  `driver_ms_a_block`: processor time that a block costs Ray Data's driver on its way from a
        task that reads through an actor into a file: what bounds sets of many blocks.
engines `stream_over_map_rows`: how long one set of 60,000 pictures takes where the driver lists its
        rows, as a share of what a stream takes; `first_kept_s`: to the first rows kept, of both.
store   `store_spilled_files`: what Ray's object store of 200 MB spills to disk while 10,000 images
        of 5 MB (one file on disk, under many names) go through it.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.stream_engines import engines, store
from benchmarks.stream_faults import kills, lost_node, resume
from benchmarks.stream_sets import CPUS, OWN, ROOT, Predict, environment, say, tables, tars

ROWS, FEW = 3_000_000, 100_000
WDS_ROWS, WDS_FEW = 300_000, 30_000
SPEED_ROWS, FILES, BLOCKS = 3_000_000, 100_000, 3_000
QUICK = 6_000


def main() -> None:
    parts = {
        "memory": memory,
        "wds": wds,
        "speed": speed,
        "resume": resume,
        "kills": kills,
        "lost": lost_node,
        "first": first,
        "blocks": blocks,
        "engines": engines,
        "store": store,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few rows: whether it runs")
    parser.add_argument("--only", choices=list(parts), help="one part alone")
    given = parser.parse_args()
    # With --quick alone one part says whether it runs; with both, the part that is named.
    chosen = [given.only] if given.only else ["speed"] if given.quick else list(parts)
    figures: dict[str, Any] = {}
    for part in chosen:
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "own.py").write_text(OWN)
            figures |= parts[part](Path(name), given.quick)
    print(json.dumps(figures))


def memory(folder: Path, quick: bool) -> dict[str, Any]:
    """Peak memory of the driver, few rows and many."""
    few, many = (QUICK // 3, QUICK) if quick else (FEW, ROWS)
    peaks = [peak_mb(folder, tables(folder / f"t{n}", n), n) for n in (few, many)]
    say(f"Parquet: driver {peaks[0]:.0f} MB at {few:,} rows, {peaks[1]:.0f} MB at {many:,}")
    return {"driver_growth_mb": round(peaks[1] - peaks[0], 1)}


def wds(folder: Path, quick: bool) -> dict[str, Any]:
    """The same, of tars."""
    few, many = (QUICK // 3, QUICK) if quick else (WDS_FEW, WDS_ROWS)
    peaks = [peak_mb(folder, tars(folder / f"w{n}", n), n) for n in (few, many)]
    say(f"tars: driver {peaks[0]:.0f} MB at {few:,} rows, {peaks[1]:.0f} MB at {many:,}")
    return {"wds_driver_growth_mb": round(peaks[1] - peaks[0], 1)}


def peak_mb(folder: Path, images: Path, num_rows: int) -> float:
    """The most memory that the driver held; its time on a processor is said too."""
    job = Predict(folder, images, folder / f"out-{images.name}")
    peak = cpu_s = 0.0
    for _ in job.running():
        peak, cpu_s = max(peak, _peak_of(job.pid)), max(cpu_s, _cpu_s_of(job.pid))
    seconds = job.finish(num_rows)
    say(
        f"{num_rows:,} rows in {seconds:.0f} s, {num_rows / seconds:,.0f} rows/s; the driver held "
        f"{peak:.0f} MB and took {cpu_s:.0f} s of a processor"
    )
    return peak


def _peak_of(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    found = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(found[0]) / 1e3 if found else 0.0


def _cpu_s_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def speed(folder: Path, quick: bool) -> dict[str, Any]:
    """Rows a second, beside the plain script, start and end of both included."""
    num_rows = QUICK if quick else SPEED_ROWS
    images, few = tables(folder / "speed", num_rows), tables(folder / "few", QUICK // 3)
    taken = {}
    for name, given in {"few": few, "all": images}.items():
        taken["plain", name] = plain_s(given, folder / f"plain-{name}")
        count = num_rows if name == "all" else QUICK // 3
        taken["ours", name] = Predict(folder, given, folder / f"ours-{name}").finish(count)
        for way in ("plain", "ours"):
            say(f"{way:5} {count:>9,} rows in {taken[way, name]:6.1f} s")
    whole = taken["plain", "all"] / taken["ours", "all"]
    running = {way: taken[way, "all"] - taken[way, "few"] for way in ("plain", "ours")}
    for way in running:
        say(f"{way:5} {num_rows / taken[way, 'all']:8,.0f} rows/s")
    return {
        "stream_efficiency": round(whole, 3),
        "stream_efficiency_running": round(running["plain"] / running["ours"], 3),
        "rows_per_s": round(num_rows / taken["ours", "all"]),
    }


def first(folder: Path, quick: bool) -> dict[str, Any]:
    """Seconds to the first scores of local files; the job is killed then."""
    from benchmarks.photographs import lay_out
    from benchmarks.predict import SMALL_SIDES, detector_of, first_score
    from rayapp.models.folder import save_detector
    from rayapp.storage.uris import open_store

    count = QUICK // 2 if quick else FILES
    lay_out(folder / "set", count, sides=SMALL_SIDES)
    detector = str(folder / "detector")
    save_detector(detector_of("highpass-small", SMALL_SIDES[0]), open_store(detector))
    taken = {}
    for name, options in {"first_score_s": (), "first_score_stream_s": ("--stream",)}.items():
        images = str(folder / "set/images")
        seconds, peak = first_score(detector, images, folder / name, *options)
        say(f"{count:,} files{', streamed' * bool(options)}: {seconds:.1f} s, {peak:,.0f} MB")
        taken[name] = round(seconds, 1)
    return taken


def blocks(folder: Path, quick: bool) -> dict[str, Any]:
    """The driver's processor time for many small blocks, less that for few."""
    taken = {}
    for count in (100, 400 if quick else BLOCKS):
        command = [sys.executable, __file__, "blocks", str(folder / f"b{count}"), str(count)]
        done = subprocess.run(command, check=True, env=environment(), stdout=subprocess.PIPE)
        taken[count] = json.loads(done.stdout.splitlines()[-1])
        say(f"{count:,} blocks in {taken[count][0]:.1f} s; the driver took {taken[count][1]:.1f} s")
    (few, (few_s, few_cpu_s)), (many, (many_s, many_cpu_s)) = taken.items()
    return {
        "driver_ms_a_block": round(1000 * (many_cpu_s - few_cpu_s) / (many - few), 2),
        "blocks_per_s": round((many - few) / (many_s - few_s), 1),
    }


def send_blocks(output: str, count: str) -> None:
    """Blocks of ten rows go the way that a stream's go; prints seconds, and the driver's."""
    ray = quiet_ray()

    class Same:
        def __call__(self, batch: pa.Table) -> pa.Table:
            return batch

    start, cpu_start = time.perf_counter(), time.process_time()
    rows = ray.data.range(10 * int(count), override_num_blocks=int(count))
    workers = ray.data.ActorPoolStrategy(size=CPUS)
    worked = rows.map_batches(Same, batch_size=None, compute=workers, num_cpus=0.5)
    worked.write_parquet(output, min_rows_per_file=10 * int(count))
    print(json.dumps([time.perf_counter() - start, time.process_time() - cpu_start]))


def plain_s(images: Path, output: Path) -> float:
    """Seconds of the plain script, in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "plain", str(images), str(output), OWN]
    # A reader of footers takes a CPU of the two by itself: with more the plain script stands.
    env = environment() | {"RAY_DATA_PARQUET_FOOTER_NUM_ACTORS": "1"}
    subprocess.run(command, check=True, env=env, cwd=ROOT)
    return time.perf_counter() - start


def plain(images: str, output: str, own: str) -> None:
    """The script that anybody would write."""
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

    ray = quiet_ray()
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


def quiet_ray() -> Any:
    """Ray with Ray Data, of this process's own, and without a word."""
    import ray
    import ray.data

    quiet = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
    ray.init(address="local", num_cpus=CPUS, object_store_memory=1 << 30, **quiet)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def run(arguments: Sequence[str]) -> None:
    """The plain script or many blocks in a process of their own, or the benchmark."""
    if arguments[:1] == ["plain"]:
        plain(*arguments[1:])
    elif arguments[:1] == ["blocks"]:
        send_blocks(*arguments[1:])
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        main()


if __name__ == "__main__":
    run(sys.argv[1:])
