"""What evaluate refuses before any image is scored."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rayapp.calibrate.fit import calibrate
from rayapp.calibrate.settings import CalibrateSettings
from rayapp.config.errors import UserError
from rayapp.config.yaml_files import validated
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import Item, load_scheme, write_list
from rayapp.evaluate.settings import EvaluateJobSettings
from rayapp.jobs.evaluate import measure
from rayapp.models.folder import load_detector
from rayapp.storage.uris import open_store
from tests.detectors import listed, saved_detector, saved_scores

NUM = 40


def _calibrated(folder: Path) -> tuple[str, list[Item]]:
    """A detector that was calibrated on the images of `list.txt` under `images`."""
    scheme = load_scheme("demo")
    origins = [n % 2 for n in range(NUM)]
    items = listed(folder / "list.txt", origins, scheme)
    (folder / "images/i").mkdir(parents=True)
    rng = np.random.default_rng(5)
    for item in items:
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / item.path)
    plain = saved_detector(folder / "plain")
    logits = np.array(origins) * 2.0 - 1 + rng.normal(size=NUM)
    scores = saved_scores(folder / "scores", load_detector(plain), items, logits, scheme)
    hashes = [sha256((folder / "images" / item.path).read_bytes()) for item in items]
    table = pa.table({"path": [item.path for item in items], "sha256": hashes})
    pq.write_table(table, folder / "identities.parquet")
    given = {
        "detector": plain,
        "scores": scores,
        "annotations": str(folder / "list.txt"),
        "identities": str(folder / "identities.parquet"),
        "scheme": "demo",
        "output": str(folder / "calibrated"),
    }
    calibrate(validated(CalibrateSettings, given, str))
    return str(folder / "calibrated"), items


def _settings(folder: Path, detector: str, root: str, annotations: str) -> EvaluateJobSettings:
    given = {
        "detector": detector,
        "annotations": str(folder / annotations),
        "root": str(folder / root),
        "scheme": "demo",
        "output": str(folder / "out"),
    }
    return validated(EvaluateJobSettings, given, str)


def test_its_calibration_images_by_the_name_of_their_list(tmp_path: Path) -> None:
    detector, _ = _calibrated(tmp_path)
    said = f"{NUM} of {NUM} calibration images are in list.txt, which calibrated is to be measured"
    with pytest.raises(UserError, match=said):
        measure(_settings(tmp_path, detector, "images", "list.txt"))
    assert list(tmp_path.glob("out*")) == []


def test_a_calibration_list_under_other_names(tmp_path: Path) -> None:
    detector, items = _calibrated(tmp_path)
    (tmp_path / "moved").mkdir()
    moved = [Item(f"{at}.png", f"{at}.png", item.labels) for at, item in enumerate(items)]
    for before, now in zip(items, moved, strict=True):
        (tmp_path / "moved" / now.path).write_bytes(
            (tmp_path / "images" / before.path).read_bytes()
        )
    write_list(open_store(tmp_path), "moved.txt", moved, load_scheme("demo"))
    with pytest.raises(
        UserError, match=r"40 of 40 calibration images are in moved\.txt.* by sha256"
    ):
        measure(_settings(tmp_path, detector, "moved", "moved.txt"))
    assert list(tmp_path.glob("out*")) == []
