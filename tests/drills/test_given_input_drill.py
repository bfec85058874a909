"""Perturb, pack and audit on a set in tables, killed on their way: every row once, nothing else."""

import json
import os
import signal
import time
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from rayapp.dataset import manifest
from rayapp.storage.uris import open_store
from tests.drills.clusters import started, wait_until
from tests.jobs.test_predict import picture
from tests.sets import as_tables

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]
ROWS = 4_000
# Where a job keeps its rows while it works, and where they are in the end.
JOBS = {
    "perturb": (("--perturbation", "jpeg-grid"), "rows", "manifest"),
    "pack": (("--tile-px", "16"), "tiles", "tiles"),
    "audit": ((), "manifest", "manifest"),
}


@pytest.mark.parametrize("job", [pytest.param("perturb", marks=pytest.mark.first), "pack", "audit"])
def test_killed_twice_every_row_is_there_once(tmp_path: Path, job: str) -> None:
    options, kept, made = JOBS[job]
    pictures = [picture(at, 40, 44) for at in range(50)]
    images = {f"{at:05}.png": pictures[at % 50] for at in range(ROWS - 1)} | {"no.png": b"no image"}
    as_tables(tmp_path / "data", images, shards=5)
    output, log = tmp_path / "out", tmp_path / "log"
    command = ["--input", str(tmp_path / "data"), "--output", str(output), "--cpus", "2", *options]

    def rows_kept() -> int:
        return sum(pq.read_metadata(one).num_rows for one in (output / kept).glob("*.parquet"))

    for share in (0.0, 0.4):
        process = started(log, job, *command)
        wait_until(process, lambda share=share: rows_kept() > share * ROWS)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(3)  # Ray's processes see that the driver is gone
    process = started(log, job, *command)
    assert process.wait() == 3, log.read_text()
    told = json.loads((output / "run.json").read_text())
    assert told["counts"]["failed"] == 1
    folder = ds.dataset(output / made).to_table()
    whole = manifest.read_table(open_store(output), f"{made}.parquet")
    assert folder.num_rows == whole.num_rows == len(set(whole["id"].to_pylist()))
    assert len(set(whole["row"].to_pylist())) == ROWS
    assert json.loads((output / made / "_manifest").read_text())["rows"] == folder.num_rows
    assert not list(output.glob("*-checkpoint/*"))
    assert job == "perturb" or folder.num_rows == ROWS
    if job == "perturb":
        assert list(output.glob("rows/*"))  # for the image that failed, to be tried again
        done = [row for row in whole.to_pylist() if row["status"] == "ok"]
        assert {row["path"] for row in done} == {
            str(one.relative_to(output)) for one in output.rglob("*.webp")
        }
