"""Pairs are the same on 1 and 2 CPUs, through a network of the TAESD family, and after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rayapp.dataset import manifest
from rayapp.dataset.images import sha256
from rayapp.models.autoencoders.taesd import Taesd
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store
from tests.pictures import saved
from tests.transforms.conftest import picture

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.drill
COUNT = 40
_PARTS = "parts/reconstruct/"


def photographs(folder: Path) -> Path:
    """JPEGs of many qualities, and a network with random weights."""
    (folder / "photos").mkdir(parents=True)
    for at in range(COUNT):
        image = Image.fromarray(picture(150 + at, 190 - at, at))
        data = saved(image, "JPEG", quality=50 + at, subsampling=at % 3)
        (folder / f"photos/{at:03}.jpg").write_bytes(data)
    torch.manual_seed(0)
    network = Taesd(32, middle_blocks=True)
    for part in ("encoder", "decoder"):
        torch.save(getattr(network, part).state_dict(), folder / f"taef2_{part}.pth")
    return folder


def command(folder: Path, output: str, *more: str, root: str = "") -> list[str]:
    return [
        *(sys.executable, str(ROOT / "jobs/reconstruct.py"), "--root", root or f"{folder}/photos"),
        *("--autoencoder", "taef2", "--weights", str(folder), "--side", "96", "--on-ray"),
        *(
            "--latent-noise",
            "0.2",
            "--blend",
            "0.5",
            "--blend-in",
            "pixels",
            "--output",
            output,
            *more,
        ),
    ]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return kept | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"} | more


def parts_of(output: str) -> list[str]:
    """Keys of the parts that are written whole."""
    keys = [stat.key for stat in open_store(output).list(_PARTS)]
    return [key for key in keys if not PurePosixPath(key).name.startswith(".")]


def killed(line: list[str], output: str, **more: str) -> int:
    """Start it, and kill it with all that it started once a part is written; its rows by then."""
    with subprocess.Popen(
        line, env=environment(**more), stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 200
        while process.poll() is None and not parts_of(output):
            assert time.monotonic() < deadline, "no part was written"
            time.sleep(0.05)
        assert process.poll() is None, "done before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
    store = open_store(output)
    _settle(store)
    parts = [pa.BufferReader(store.get(key)) for key in parts_of(output)]
    finished = sum(pq.read_metadata(part).num_rows for part in parts)
    assert 0 < finished < COUNT
    return finished


def _settle(store: Store) -> None:
    """Until Ray's workers, which outlive their driver for a moment, have written their last."""
    before, count = -1, 0
    while count != before:
        before, count = count, sum(1 for _ in store.list())
        time.sleep(3)


@pytest.mark.first
@pytest.mark.timeout(600)
def test_any_number_of_cpus_and_a_kill_make_the_same_pairs(tmp_path):
    folder = photographs(tmp_path / "in")
    tables = []
    for cpus in ("1", "2"):
        output = tmp_path / cpus
        line = command(folder, str(output), "--cpus", cpus)
        before: dict[Path, int] = {}
        finished = 0
        if cpus == "2":
            finished = killed(line, str(output))
            before = {path: path.stat().st_mtime_ns for path in output.rglob("*.webp")}
        done = subprocess.run(line, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        kept = [path for path, when in before.items() if path.stat().st_mtime_ns == when]
        assert len(kept) >= 2 * finished  # those were not done again
        assert json.loads((output / "run.json").read_text())["counts"]["pairs"] == COUNT
        tables.append(pq.read_table(output / "manifest.parquet"))
        for row in tables[-1].to_pylist():
            assert sha256((output / row["path"]).read_bytes()) == row["sha256"]
    assert tables[0].equals(tables[1])


@pytest.mark.timeout(600)
def test_on_s3_a_kill_makes_the_pairs_that_a_local_run_makes(tmp_path, s3):
    folder, local = photographs(tmp_path / "in"), tmp_path / "out"
    there = f"s3://{s3.bucket}/reconstruct-{tmp_path.name}"
    inputs, outputs = open_store(f"{there}/photos"), open_store(f"{there}/out")
    for file in sorted((folder / "photos").iterdir()):
        inputs.put(file.name, file.read_bytes())
    line = command(folder, outputs.root, "--cpus", "2", root=inputs.root)
    finished = killed(line, outputs.root, **s3.environment)
    before = {one.key: one.etag for one in outputs.list() if one.key.endswith(".webp")}
    when = {one.key: one.modified for one in outputs.list() if one.key in before}
    done = subprocess.run(
        line, env=environment(**s3.environment), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    after = {one.key: one for one in outputs.list() if one.key.endswith(".webp")}
    kept = [key for key in before if after[key].modified == when[key]]
    assert len(kept) >= 2 * finished, "those were not done again"
    assert all(after[key].etag == before[key] for key in before)
    here = subprocess.run(
        command(folder, str(local), "--cpus", "2"),
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert here.returncode == 0, here.stderr
    far = manifest.read_table(outputs, "manifest.parquet")
    assert far.equals(pq.read_table(local / "manifest.parquet"))
    assert sorted(after) == sorted(far["path"].to_pylist())
    for row in far.to_pylist():
        assert sha256(outputs.get(row["path"])) == row["sha256"]
