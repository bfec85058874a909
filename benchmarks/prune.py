"""The decisions of a prune beside the original's method: os.walk, relpath and a set, one process.

    python benchmarks/prune.py [--quick]

A million empty files in 2,000 folders, a fifth of them annotated. Both sides read the list and
write path, bytes and decision of every file as Parquet; each runs in a process of its own, what is
compared with before and after. Imports (of Ray's workers too: a small tree is looked at first) and
ray.init are not counted; the time with them is printed.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

CORES = 2
_LABELS = ",0,0,4,8"
_STARTED = time.monotonic()


def lay_out(folder: Path, files: int, folders: int) -> None:
    """The tree under `folder`/root, and the list of every fifth file."""
    each, lines = files // folders, []
    for number in range(folders):
        name = f"{number % 20:02d}/{number:04d}"
        (folder / "root" / name).mkdir(parents=True)
        at = os.open(folder / "root" / name, os.O_RDONLY)
        for index in range(each):
            file = f"{number * each + index:07d}.png"
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=at))
            if index % 5 == 0:
                lines.append(f"./{name}/{file}{_LABELS}\n")
        os.close(at)
    (folder / "list.txt").write_text("".join(lines))


def original(folder: Path) -> None:
    """As the original finds what to delete, with sizes and Parquet as ours has them."""
    root = str(folder / "root")
    with (folder / "list.txt").open() as file:
        wanted = {os.path.normpath(line.split(",")[0]) for line in file}
    paths, sizes, decisions = [], [], []
    for at, _, names in os.walk(root):
        for name in names:
            path = os.path.relpath(os.path.join(at, name), root)
            paths.append(path)
            sizes.append(os.path.getsize(os.path.join(at, name)))
            decisions.append("keep" if path in wanted else "remove")
    table = pa.table({"path": paths, "bytes": sizes, "decision": decisions})
    pq.write_table(table, folder / "original.parquet", compression="zstd")


def side(name: str, folder: Path) -> dict[str, float]:
    """One side's seconds and this process's peak memory."""
    if name == "original":
        start = time.monotonic()
        original(folder)
    else:
        from rayapp.cluster.session import session
        from rayapp.jobs.prune import prune
        from rayapp.prune.settings import PruneSettings

        settings = PruneSettings(
            root=str(folder / "root"),
            annotations=(str(folder / "list.txt"),),
            output=str(folder / "ours"),
            cpus=CORES,
            overwrite=True,
        )
        with session(settings):
            warm_up(folder, settings)
            start = time.monotonic()
            prune(settings)
            end = time.monotonic()
        return _figures(start, end)
    return _figures(start, time.monotonic())


def warm_up(folder: Path, settings: Any) -> None:
    """Decide on a small tree first: what Ray's workers import is not counted either."""
    lay_out(folder / "small", 200, 100)
    places = {"root": str(folder / "small/root"), "output": str(folder / "small/out")}
    from rayapp.jobs.prune import prune

    prune(settings.model_copy(update=places | {"annotations": (str(folder / "small/list.txt"),)}))


def _figures(start: float, end: float) -> dict[str, float]:
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": end - start, "with_start": end - _STARTED, "peak_mb": peak_mb}


def in_a_process(name: str, folder: Path) -> dict[str, float]:
    """A side in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.prune", "--side", name, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{name:<9} {figures['seconds']:6.2f} s ({figures['with_start']:.2f} s with imports and "
        f"start), peak {figures['peak_mb']:.0f} MB",
        flush=True,
    )
    return figures


def check_equal(folder: Path) -> None:
    """Both sides decided alike, file by file."""
    tables = [
        pq.read_table(folder / name).select(["path", "bytes", "decision"]).sort_by("path")
        for name in ("original.parquet", "ours/decisions.parquet")
    ]
    assert tables[0].equals(tables[1].cast(tables[0].schema)), "the two decide otherwise"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    given: Any = parser.parse_args()
    if given.side:
        print(json.dumps(side(given.side[0], Path(given.side[1]))))
        return
    files, folders = (100_000, 200) if given.quick else (1_000_000, 2000)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lay_out(folder, files, folders)
        print(f"{files:,} files in {folders:,} folders, {CORES} CPUs", flush=True)
        before = in_a_process("original", folder)
        ours = in_a_process("ours", folder)
        after = in_a_process("original", folder)
        check_equal(folder)
    theirs = (before["seconds"] + after["seconds"]) / 2
    print(
        json.dumps(
            {
                "plan_speedup": round(theirs / ours["seconds"], 3),
                "plan_driver_mb": round(ours["peak_mb"], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
