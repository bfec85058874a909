"""A large set under fire: what resuming saves, and that no row is lost or there twice."""

import time
from pathlib import Path
from typing import Any

from benchmarks.stream_sets import Predict, rows_written, say, tables
from tests.drills.clusters import raylets

RESUME_ROWS, KILLED_ROWS, QUICK = 3_000_000, 1_000_000, 6_000
_KILLS = (0.05, 0.2, 0.4, 0.6, 0.8)  # of the rows written, when the driver is killed


def resume(folder: Path, quick: bool) -> dict[str, Any]:
    """The time of a run that goes on after half, as a share of a full run's."""
    num_rows = QUICK if quick else RESUME_ROWS
    images = tables(folder / "resume", num_rows)
    full_s = Predict(folder, images, folder / "whole").finish(num_rows)
    say(f"full run {full_s:.1f} s")
    output = folder / "resumed"
    job = Predict(folder, images, output)
    job.until(lambda: rows_written(output) >= num_rows / 2)
    done = job.kill()
    say(f"killed with {done:,} rows written")
    rest_s = Predict(folder, images, output).finish(num_rows)
    say(f"resumed in {rest_s:.1f} s, {rest_s / full_s:.2f} of it")
    return {"resume_share": round(rest_s / full_s, 3), "killed_at": round(done / num_rows, 3)}


def kills(folder: Path, quick: bool) -> dict[str, Any]:
    """Killed at five points and gone on each time."""
    num_rows = QUICK if quick else KILLED_ROWS
    images, output = tables(folder / "kills", num_rows), folder / "killed"
    start = time.perf_counter()
    for share in _KILLS:
        job = Predict(folder, images, output)
        job.until(lambda share=share: rows_written(output) > share * num_rows)  # type: ignore[misc]
        say(f"killed with {job.kill():,} rows written")
    Predict(folder, images, output).finish(num_rows)
    say(f"{len(_KILLS)} kills: every row once, {time.perf_counter() - start:.0f} s in all")
    return {"kills_exact": len(_KILLS)}


def lost_node(folder: Path, quick: bool) -> dict[str, Any]:
    """One of two raylets is killed when a third of the rows is there."""
    num_rows = QUICK if quick else KILLED_ROWS
    images, output = tables(folder / "images", num_rows), folder / "lost"
    with raylets(1) as cluster:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        job = Predict(folder, images, output, cluster.address)
        job.until(lambda: rows_written(output) > num_rows / 3)
        cluster.remove_node(node, allow_graceful=False)
        say(f"a node lost with {rows_written(output):,} rows written")
        seconds = job.finish(num_rows)
    say(f"every row once, {seconds:.0f} s")
    return {"lost_node_exact": 1}
