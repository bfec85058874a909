"""A large set under fire: killed five times on its way, a node lost, and in every form on S3."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from rayapp.dataset import scores
from rayapp.storage.uris import open_store
from tests.doubles.s3 import S3
from tests.drills.clusters import raylets, started, wait_until
from tests.jobs.test_predict import picture
from tests.sets import as_folder, as_hub, as_plain_tables, as_tables, as_tars

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]
ROWS = 6_000
SLOW = "import time\ndef predict(images):\n    time.sleep(0.004 * len(images))\n"
MEAN = "    return [float(i.mean()) / 255 for i in images]\n"


def tables(folder: Path) -> tuple[str, ...]:
    """Options of a job on tables of many small pictures, of which one is none."""
    made = [picture(at, 8, 9) for at in range(50)]
    images = {f"{at:05}.png": made[at % 50] for at in range(ROWS - 1)} | {"no.png": b"no image"}
    as_tables(folder / "data", images, shards=5)
    (folder / "own.py").write_text(SLOW + MEAN)
    return ("--detector", str(folder / "own.py"), "--input", str(folder / "data"), "--stream")


def written(output: Path) -> int:
    return sum(pq.read_metadata(one).num_rows for one in (output / "scores").glob("*.parquet"))


def check(output: Path) -> None:
    """Every row once; the manifest says so."""
    rows = ds.dataset(output / "scores").to_table(columns=["id", "status"])
    assert len(set(rows["id"].to_pylist())) == rows.num_rows == ROWS
    told = json.loads((output / "run.json").read_text())["counts"]
    assert told == {"in": ROWS, "scored": ROWS - 1, "failed": 1}
    assert json.loads((output / "scores/_manifest").read_text())["rows"] == ROWS


@pytest.mark.first
def test_killed_five_times_every_row_is_there_once(tmp_path: Path):
    options, output = tables(tmp_path), tmp_path / "out"
    command = [*options, "--output", str(output), "--cpus", "2"]
    for share in (0.0, 0.2, 0.4, 0.6, 0.8):
        job = started(tmp_path / "log", "predict", *command)
        wait_until(job, lambda share=share: written(output) > share * ROWS)
        os.kill(job.pid, signal.SIGKILL)
        job.wait()
        time.sleep(3)  # Ray's processes see that the driver is gone
    job = started(tmp_path / "log", "predict", *command)
    assert job.wait() == 3, (tmp_path / "log").read_text()
    check(output)


def test_rows_that_failed_are_tried_again_whenever_it_is_killed(tmp_path: Path):
    """Each seventh image comes late; kills come while it is away, and while rows are forgotten."""
    names = [f"{at:05}.png" for at in range(ROWS)]
    made = [picture(at, 8, 9) for at in range(50)]
    late = set(names[::7])
    images = {name: made[at % 50] for at, name in enumerate(names)}
    root = as_folder(tmp_path / "f", {k: v for k, v in images.items() if k not in late})
    pq.write_table(pa.table({"path": names}), tmp_path / "list.parquet", row_group_size=1_000)
    (tmp_path / "own.py").write_text(SLOW + MEAN)
    output, log = tmp_path / "out", tmp_path / "log"
    command = ["--detector", str(tmp_path / "own.py"), "--input", str(tmp_path / "list.parquet")]
    command += ["--root", str(root), "--stream", "--output", str(output), "--cpus", "2"]

    def killed_once(happened: Callable[[], object]) -> None:
        job = started(log, "predict", *command)
        wait_until(job, happened)
        os.kill(job.pid, signal.SIGKILL)
        job.wait()
        time.sleep(3)  # Ray's processes see that the driver is gone

    killed_once(lambda: written(output) > 0.4 * ROWS)
    as_folder(tmp_path / "f", {name: images[name] for name in late})
    before = written(output)
    killed_once(lambda: written(output) < before)
    killed_once(lambda: written(output) > 0.7 * ROWS)
    job = started(log, "predict", *command)
    assert job.wait() == 0, log.read_text()
    rows = ds.dataset(output / "scores").to_table(columns=["id", "status"])
    assert len(set(rows["id"].to_pylist())) == rows.num_rows == ROWS
    assert set(rows["status"].to_pylist()) == {"ok"}
    told = json.loads((output / "run.json").read_text())["counts"]
    assert told == {"in": ROWS, "scored": ROWS, "failed": 0}


def test_a_lost_node_loses_no_row(tmp_path: Path):
    options, output = tables(tmp_path), tmp_path / "out"
    with raylets(1) as cluster:
        node = cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        command = [*options, "--output", str(output)]
        job = started(tmp_path / "log", "predict", *command, RAY_ADDRESS=cluster.address)
        wait_until(job, lambda: written(output) > 0.3 * ROWS)
        cluster.remove_node(node, allow_graceful=False)
        assert job.wait() == 3, (tmp_path / "log").read_text()
    check(output)


# Of as many images as FORMS_IMAGES says: `FORMS_IMAGES=20000 pytest -m drill -k every_form`.
NUM_IMAGES = int(os.environ.get("FORMS_IMAGES", "500"))
# Each hundredth image is damaged in one of these ways.
DAMAGED = (b"no image", b"", picture(1, 20, 24)[:60])


def images_and_damaged() -> tuple[dict[str, bytes], set[str]]:
    """Pictures by name, and which of them are none."""
    made = [picture(at, 20, 24) for at in range(min(NUM_IMAGES, 1_000))]
    images, damaged = {}, set[str]()
    for at in range(NUM_IMAGES):
        name = f"{at:06}.png"
        if at % 100 == 7:
            damaged.add(name)
        images[name] = DAMAGED[at // 100 % 3] if name in damaged else made[at % len(made)]
    return images, damaged


def test_one_set_in_every_form_on_s3(tmp_path: Path, s3: S3):
    images, damaged = images_and_damaged()
    (tmp_path / "own.py").write_text("def predict(images):\n" + MEAN)
    root = f"s3://{s3.bucket}/forms"
    forms = {
        "folder": as_folder(tmp_path / "folder", images),
        "tables": as_plain_tables(tmp_path / "tables", images),
        "tars": as_tars(tmp_path / "tars", images),
        "hub": as_hub(tmp_path / "hub", images),
    }
    for name, folder in forms.items():
        store = open_store(f"{root}/{name}")
        files = [file for file in folder.rglob("*") if file.is_file()]
        with ThreadPoolExecutor(16) as pool:
            put = [
                pool.submit(store.put, str(file.relative_to(folder)), file.read_bytes())
                for file in files
            ]
        assert all(one.result() for one in put)
    (tmp_path / "list.txt").write_text("\n".join(images))
    inputs = {name: (f"{root}/{name}",) for name in forms}
    inputs["list"] = (str(tmp_path / "list.txt"), "--root", f"{root}/folder")
    found = {}
    for name, given in inputs.items():
        output = f"{root}-out/{name}"
        command = ["--detector", str(tmp_path / "own.py"), "--input", *given, "--output", output]
        job = started(
            tmp_path / "log", "predict", *command, "--stream", "--gallery", "0", **s3.environment
        )
        assert job.wait() == 3, (tmp_path / "log").read_text()
        rows = scores.read_scores(open_store(output)).to_pylist()
        # A plain table names its images in a column of its own.
        found[name] = {
            re.findall(r"\d{6}\.png", row.get("name") or row["path"])[-1]: row for row in rows
        }
        assert len(rows) == len(found[name])
    for name, by_image in found.items():
        assert by_image.keys() == images.keys(), name
        failed = {image for image, row in by_image.items() if row["status"] == "failed"}
        assert failed == damaged, name
        assert all(by_image[image]["error"] for image in damaged), name
        pairs = [
            (by_image[image]["logit"], found["folder"][image]["logit"])
            for image in images.keys() - damaged
        ]
        np.testing.assert_allclose(*np.array(pairs).T, rtol=0, atol=1e-6, err_msg=name)
