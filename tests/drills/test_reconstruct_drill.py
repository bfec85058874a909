"""Pairs are the same on 1 and 2 CPUs, through a network of the TAESD family, and after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rayapp.dataset.images import sha256
from rayapp.models.autoencoders.taesd import Taesd
from tests.pictures import saved
from tests.transforms.conftest import picture

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.drill
COUNT = 40
_PARTS = "parts/reconstruct/[!.]*"  # whole ones


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


def command(folder: Path, output: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, str(ROOT / "jobs/reconstruct.py"), "--root", str(folder / "photos")),
        *("--autoencoder", "taef2", "--weights", str(folder), "--side", "96", "--on-ray"),
        *("--latent-noise", "0.2", "--blend", "0.5", "--output", str(output), *more),
    ]


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return kept | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}


def killed(line: list[str], output: Path) -> None:
    """Start it, and kill it with all that it started once a part is written."""
    with subprocess.Popen(
        line, env=environment(), stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 200
        while process.poll() is None and not list(output.glob(_PARTS)):
            assert time.monotonic() < deadline, "no part was written"
            time.sleep(0.05)
        assert process.poll() is None, "done before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.first
@pytest.mark.timeout(600)
def test_any_number_of_cpus_and_a_kill_make_the_same_pairs(tmp_path):
    folder = photographs(tmp_path / "in")
    tables = []
    for cpus in ("1", "2"):
        output = tmp_path / cpus
        line = command(folder, output, "--cpus", cpus)
        before: dict[Path, int] = {}
        finished = 0
        if cpus == "2":
            killed(line, output)
            finished = sum(pq.read_metadata(part).num_rows for part in output.glob(_PARTS))
            assert 0 < finished < COUNT
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
