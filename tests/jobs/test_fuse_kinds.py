"""A fusion of detectors of three kinds, which see images in their own ways."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rayapp import load_detector
from rayapp.config.errors import UserError
from rayapp.config.yaml_files import validated
from rayapp.dataset.labels import load_scheme
from rayapp.fuse.settings import FuseSettings
from rayapp.jobs.fuse import fuse
from rayapp.jobs.predict import predict
from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.detector import Detector
from rayapp.models.folder import save_detector
from rayapp.predict.settings import PredictSettings
from rayapp.storage.uris import open_store
from tests.detectors import listed, tiny_detector
from tests.fuse.fused import fused
from tests.hub_folders import save_folder
from tests.models.adopted.test_onnx_forms import SEEN, Net, save

pytest.importorskip("transformers")
NUM = 40


def ours(folder: Path, threshold: float, view: str = "centre") -> str:
    """One of ours, calibrated, that decides at a threshold."""
    plain = tiny_detector(0, size=24)
    seen = plain.spec.preprocessing.model_copy(update={"view": view})
    detector = Detector(plain.network, plain.spec.model_copy(update={"preprocessing": seen}))
    calibration = Calibration(
        method="platt",
        parameters={"slope": 2.0, "bias": 0.5},
        threshold=threshold,
        n=10,
        items_hash="x",
        detector_hash=detector.hash(),
        preprocessing_hash=seen.hash,
    )
    spec = detector.spec.model_copy(update={"calibration": calibration})
    save_detector(Detector(detector.network, spec), open_store(folder))
    return str(folder)


@pytest.fixture
def kinds(tmp_path: Path) -> list[str]:
    torch.manual_seed(1)
    hub = save_folder(tmp_path / "hub", "vit", ("LABEL_0", "LABEL_1"))
    onnx = save(tmp_path / "onnx", Net(), SEEN)
    return [ours(tmp_path / "ours", 0.9, "tiles"), f"{hub}#synthetic=LABEL_1", str(onnx)]


def settings(tmp_path: Path, detectors: list[str], **changes: object) -> FuseSettings:
    root = tmp_path / "images"
    if not root.exists():
        (root / "i").mkdir(parents=True)
        rng = np.random.default_rng(0)
        for n in range(NUM):
            pixels = rng.integers(0, 256, (40 + n, 60, 3)) // (1 + n % 2 * 3) + n % 2 * 90
            pixels[: len(pixels) // 2] //= 4  # a horizon: noise alone is nothing to judge
            Image.fromarray(pixels.astype(np.uint8)).save(root / f"i/{n:04d}.png")
        listed(tmp_path / "list.txt", [n % 2 for n in range(NUM)], load_scheme("demo"))
    wanted = {
        "detectors": detectors,
        "annotations": str(tmp_path / "list.txt"),
        "root": str(root),
        "scheme": "demo",
        "output": str(tmp_path / "out"),
        "fusion": "mean",
        "disagree_above": 1.0,
    }
    return validated(FuseSettings, {**wanted, **changes}, str)


def test_ours_a_hub_folder_and_an_onnx_file_are_one_detector(
    tmp_path: Path, kinds: list[str]
) -> None:
    asked = settings(tmp_path, kinds)
    parts = [load_detector(uri) for uri in kinds]
    turned = _against(parts, tmp_path)
    if turned:  # random weights: whichever runs against the labels says the opposite
        kinds[1] = kinds[1].replace("LABEL_1", "LABEL_0") if 1 in turned else kinds[1]
    kept = [uri for at, uri in enumerate(kinds) if at == 1 or at not in turned]
    fuse(asked.model_copy(update={"detectors": tuple(kept)}))
    whole = load_detector(tmp_path / "out/detector")
    assert [part.hash() for part in whole.parts] == [load_detector(uri).hash() for uri in kept]
    assert {part.spec.preprocessing.shape_HW for part in whole.parts} >= {(32, 32)}
    assert whole.spec.calibration is not None
    assert whole.spec.calibration.threshold == 0.5  # whatever its parts decide at
    (tmp_path / "images/i/broken.png").write_bytes(b"none")
    run = predict(
        PredictSettings(
            detector=str(tmp_path / "out/detector"), input=str(tmp_path / "images"),
            output=str(tmp_path / "p"), precision="exact", gallery=0,
        )
    )  # fmt: skip
    assert (run.counts["scored"], run.counts["failed"]) == (NUM, 1)
    rows = pq.read_table(tmp_path / "p/scores.parquet").sort_by("path")
    files = sorted((tmp_path / "images/i").iterdir())
    found = [x for x in rows["logit"].to_pylist() if x is not None]
    read = [file for file in files if file.name != "broken.png"]
    np.testing.assert_allclose(found, whole.logits(read), atol=1e-5)
    logits_NP = np.column_stack([load_detector(uri).logits(read) for uri in kept])
    assert whole.spec.fusion is not None
    np.testing.assert_allclose(found, whole.spec.fusion.fused(logits_NP), atol=1e-5)


def _against(parts: list[Detector], tmp_path: Path) -> set[int]:
    files = sorted((tmp_path / "images/i").iterdir())
    labels = np.arange(NUM) % 2
    each = [part.logits(files) for part in parts]
    return {at for at, z in enumerate(each) if z[labels == 1].mean() < z[labels == 0].mean()}


def test_one_that_is_missing_or_unclear_is_named(tmp_path: Path, kinds: list[str]) -> None:
    gone = [kinds[0], str(tmp_path / "gone")]
    with pytest.raises(UserError, match="gone: no such detector"):
        fuse(settings(tmp_path, gone))
    unclear = [kinds[0], kinds[1].partition("#")[0]]
    with pytest.raises(UserError, match="#synthetic=NAME"):
        fuse(settings(tmp_path, unclear))
    told = settings(tmp_path, unclear, synthetic_labels=["LABEL_1"])
    assert told.detectors[1] == kinds[1]
    (tmp_path / "onnx/model.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"model.onnx: not an ONNX file"):
        fuse(settings(tmp_path, [kinds[0], kinds[2]]))


def test_an_image_that_one_part_cannot_see_harms_no_other(tmp_path: Path) -> None:
    """The tiles of a line of pixels would take more memory than any image may."""
    tiled = tiny_detector(1)
    seen = tiled.spec.preprocessing.model_copy(update={"view": "tiles", "size": 256})
    tiled = Detector(tiled.network, tiled.spec.model_copy(update={"preprocessing": seen}))
    whole = fused([tiny_detector(0), tiled], [(1.0, 0.0, 0.5), (1.0, 0.0, 0.5)])
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (300, 280, 3), dtype=np.uint8)
    line = np.zeros((1, 9_000_000, 3), np.uint8)
    for detector in (whole, tiled):
        judged = detector.judge([picture, line, picture])
        assert [one.error for one in judged][::2] == ["", ""]
        assert "too narrow to be tiled by 256 px" in judged[1].error
        with pytest.raises(UserError, match=r"image 1: .*too narrow"):
            detector.logits([picture, line])
