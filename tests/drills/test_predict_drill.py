"""Prediction killed at random and resumed: no score twice, none missing; a cluster of its own."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rayapp import load_detector
from rayapp.storage.uris import open_store
from tests.detectors import saved_detector
from tests.doubles.s3 import S3
from tests.jobs.test_predict import picture

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.drill


def command(folder: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, str(ROOT / "jobs/predict.py"), "--detector", str(folder / "own.py")),
        *("--input", str(folder / "images"), "--output", str(folder / "out"), "--cpus", "2", *more),
    ]


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return kept | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}


def images(folder: Path, count: int) -> None:
    (folder / "images").mkdir()
    for number in range(count):
        pixels = np.full((8, 8 + number % 5, 3), number % 256, np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{number:05d}.png")
    # Writes down what it scores; slow enough to be killed in the middle.
    (folder / "own.py").write_text(
        "import os, time\n"
        f"log = open({str(folder / 'scored')!r}, 'a')\n"
        "def predict(images):\n"
        "    time.sleep(0.01 * len(images))\n"
        "    log.write('1\\n' * len(images))\n"
        "    log.flush()\n"
        "    return [0.25 + i.shape[1] / 100 for i in images]\n"
    )


def kill_after_first_part(folder: Path, seed: int) -> None:
    process = subprocess.Popen(
        command(folder), env=environment(), stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait = time.monotonic() + 120
    before = len(list((folder / "out/parts/predict").glob("[!.]*")))
    while len(list((folder / "out/parts/predict").glob("[!.]*"))) <= before:
        assert process.poll() is None
        assert time.monotonic() < wait
        time.sleep(0.05)
    time.sleep(random.Random(seed).uniform(0, 2))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.first
def test_killed_and_resumed_no_score_is_missing_or_twice(tmp_path: Path):
    count = 1200
    images(tmp_path, count)
    kill_after_first_part(tmp_path, 1)
    kept = sum(
        pq.read_metadata(part).num_rows
        for part in (tmp_path / "out/parts/predict").glob("[!.]*.parquet")
    )
    assert 0 < kept < count
    done = subprocess.run(command(tmp_path), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "out/scores.parquet")
    ids = table["id"].to_pylist()
    assert ids == [f"{number:05d}.png" for number in range(count)]
    p = 1 / (1 + np.exp(-table["logit"].to_numpy().astype(float)))
    np.testing.assert_allclose(p, [0.25 + (8 + n % 5) / 100 for n in range(count)], atol=1e-6)
    # What had been kept was not scored again; what was under way at the kill may have been.
    scored = len((tmp_path / "scored").read_text().splitlines())
    assert scored <= count + (count - kept)
    first, second = scored - (count - kept), count - kept
    assert first >= kept
    assert second == json.loads((tmp_path / "out/run.json").read_text())["counts"]["in"] - kept


@pytest.mark.slow
def test_killed_three_times(tmp_path: Path):
    images(tmp_path, 2500)
    for seed in range(3):
        kill_after_first_part(tmp_path, seed)
    done = subprocess.run(command(tmp_path), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "out/scores.parquet").num_rows == 2500


def test_a_fifty_megapixel_image_takes_less_than_two_gigabytes(tmp_path: Path):
    saved_detector(tmp_path / "detector")
    (tmp_path / "images").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (500, 1000, 3), np.uint8)
    large = Image.fromarray(np.tile(noise, (10, 10, 1)))  # 10,000 × 5,000
    for number in range(3):
        large.save(tmp_path / f"images/{number}.jpg", quality=80)
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "jobs/predict.py"), "--view", "tiles"),
            *("--detector", str(tmp_path / "detector"), "--input", str(tmp_path / "images")),
            *("--output", str(tmp_path / "out"), "--cpus", "1", "--gallery", "0"),
        ],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out/run.json").read_text())["results"]
    assert told["peak_mb"] < 2000
    seen = load_detector(tmp_path / "out/detector")
    wanted = seen.logits([str(tmp_path / "images/0.jpg")])[0]
    logit = pq.read_table(tmp_path / "out/scores.parquet")["logit"][0].as_py()
    assert logit == pytest.approx(float(wanted), abs=0.01)


def test_following_a_prefix_on_s3_by_etag(tmp_path: Path, s3: S3):
    saved_detector(tmp_path / "detector")
    store = open_store("s3://test/followed")
    for number in range(40):
        store.put(f"{number:02d}.png", picture(number))
    store.put("bad.png", b"text")

    def followed() -> tuple[int, int, list[str]]:
        done = subprocess.run(
            [
                *(sys.executable, str(ROOT / "jobs/predict.py"), "--follow", "--cpus", "2"),
                *("--detector", str(tmp_path / "detector"), "--input", "s3://test/followed"),
                *("--output", "s3://test/out"),
            ],
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode in (0, 3), done.stderr
        found = json.loads(open_store("s3://test/out").get("run.json"))
        table = pq.read_table(io.BytesIO(open_store("s3://test/out").get("scores.parquet")))
        return done.returncode, found["results"]["scored_now"], table["id"].to_pylist()

    assert followed()[:2] == (3, 41)
    store.put("01.png", picture(90))  # changed
    store.put("02.png", picture(2))  # the same bytes once more: the same ETag
    store.put("new.png", picture(91))
    store.delete(["03.png", "bad.png"])
    code, scored, ids = followed()
    assert (code, scored) == (0, 2)
    assert ids == sorted({f"{n:02d}.png" for n in range(40)} - {"03.png"} | {"new.png"})
