"""The audit beside a bare pool of processes that decodes and hashes the same images.

    python benchmarks/audit.py [--quick]

Both sides run on two processes; photographs of benchmarks/photographs.py repeated under new ids.
The pool runs half before and half after the job, against drift; its start is not counted, ray.init
is printed apart. The job also compares all hashes and writes its page: that is counted.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.photographs import lay_out
from rayapp.audit.inspect import AuditRows
from rayapp.audit.settings import AuditSettings
from rayapp.cluster.session import session
from rayapp.jobs.audit import audit
from rayapp.storage.uris import open_store

CORES = 2
_BATCH = 16
_shared: list[AuditRows] = []


def _start_process(work: AuditRows) -> None:
    work.setup()
    _shared.append(work)


def _batch(rows: Sequence[Any]) -> int:
    done = _shared[0].batch(rows)
    assert {row["status"] for row in done} == {"ok"}
    return len(done)


def pool_seconds(work: AuditRows, batches: Sequence[Any]) -> float:
    """Seconds of a bare pool for the batches."""
    with multiprocessing.get_context("fork").Pool(CORES, _start_process, (work,)) as pool:
        pool.map(abs, range(CORES * 4))
        start = time.monotonic()
        for _ in pool.imap_unordered(_batch, batches):
            pass
        return time.monotonic() - start


def measure(folder: Path, count: int, distinct: int) -> dict[str, float]:
    listed = lay_out(folder, count, distinct=distinct)
    work = AuditRows(open_store(folder))
    paths = [line.split(",")[0] for line in listed.read_text().splitlines()]
    rows = [{"path": path} for path in paths]
    batches = [rows[at : at + _BATCH] for at in range(0, count, _BATCH)]
    settings = AuditSettings(
        annotations=(str(listed),),
        root=str(folder),
        scheme="demo",
        output=str(folder / "audit"),
        cpus=CORES,
    )
    half = len(batches) // 2
    pool_s = pool_seconds(work, batches[:half])
    start = time.monotonic()
    with session(settings):
        ready = time.monotonic()
        run = audit(settings)
        job_s = time.monotonic() - ready
    pool_s += pool_seconds(work, batches[half:])
    assert run.counts["decoded"] == count
    print(f"ray.init: {ready - start:.1f} s, not counted")
    print(f"bare pool of {CORES}: {count / pool_s:.1f} images/s ({pool_s:.1f} s)")
    print(f"audit on Ray, {CORES} CPUs: {count / job_s:.1f} images/s ({job_s:.1f} s)")
    return {"audit_efficiency": pool_s / job_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    quick: bool = parser.parse_args().quick
    count, distinct = (400, 60) if quick else (10_000, 300)
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure(Path(temporary), count, distinct)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
