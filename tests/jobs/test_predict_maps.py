"""Maps kept beside scores: of tiles always, of patches where they are asked for; in the gallery."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rayapp import load_detector
from rayapp.config.errors import UserError
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Preprocessing
from rayapp.models.folder import save_detector
from rayapp.predict.score_maps import MOST_CELLS, bounded
from rayapp.storage.uris import open_store
from tests.detectors import saved_detector, tiny_detector
from tests.fuse.fused import fused
from tests.jobs.test_predict import run
from tests.models.vits import architecture, made
from tests.pictures import photographed, saved
from tests.predict.test_gallery import cards

SIZES = {"a.png": (70, 110), "b.png": (40, 64), "c.png": (32, 32)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for seed, (name, size) in enumerate(SIZES.items()):
        picture = saved(Image.fromarray(photographed(*size, seed)), "PNG")
        (tmp_path / "images" / name).write_bytes(picture)
    return tmp_path


def test_tiles_are_kept_as_rows_and_drawn_in_the_gallery(folder: Path) -> None:
    saved_detector(folder / "detector")
    rows = run(folder, input=str(folder / "images"), view="tiles")
    shapes = {name: np.array(row["map_logits"] or []).shape for name, row in rows.items()}
    assert shapes == {"a.png": (3, 4), "b.png": (2, 2), "c.png": (0,)}  # c is one tile
    for name in ("a.png", "b.png"):
        assert np.mean(rows[name]["map_logits"]) == pytest.approx(rows[name]["logit"], abs=1e-5)
    pixels = np.array(Image.open(folder / "images/b.png"))
    detector = load_detector(folder / "detector").seen_as("centre")
    corners = [pixels[top : top + 32, left : left + 32] for top in (0, 8) for left in (0, 32)]
    np.testing.assert_allclose(
        np.ravel(rows["b.png"]["map_logits"]), detector.logits(corners), atol=1e-5
    )
    assert "map" not in (folder / "out/scores.csv").read_text(encoding="utf-8-sig").splitlines()[0]
    shown = {
        card["path"]: card.get("map") for card in cards((folder / "out/gallery.html").read_text())
    }
    assert shown["c.png"] is None
    assert (shown["a.png"]["num_rows"], shown["a.png"]["num_columns"]) == (3, 4)
    assert shown["a.png"]["box"] == [0.0, 0.0, 1.0, 1.0]
    p = 1 / (1 + np.exp(-np.ravel(rows["a.png"]["map_logits"])))
    np.testing.assert_allclose(shown["a.png"]["probabilities"], p, atol=1e-3)


def test_patches_are_kept_where_they_are_asked_for(folder: Path) -> None:
    network = made(pool="mean")
    spec = DetectorSpec(
        architecture=architecture(pool="mean"), strides=network.backbones[0].strides(),
        preprocessing=Preprocessing(size=32),
    )  # fmt: skip
    save_detector(Detector(network, spec), open_store(folder / "detector"))
    plain = run(folder, "plain", input=str(folder / "images"))
    rows = run(folder, input=str(folder / "images"), maps=True)
    detector = load_detector(folder / "detector")
    for name, row in rows.items():
        assert plain[name]["map_logits"] is None
        assert row["logit"] == pytest.approx(plain[name]["logit"], abs=1e-5)
        expected = detector.patch_logits([folder / "images" / name])[0]
        np.testing.assert_allclose(row["map_logits"], expected, atol=1e-5)
    shown = {card["path"]: card["map"] for card in cards((folder / "out/gallery.html").read_text())}
    np.testing.assert_allclose(shown["b.png"]["box"], [0.25, 0.1, 0.5, 0.8])  # what it looked at


def test_what_has_no_patches_is_refused(folder: Path) -> None:
    saved_detector(folder / "detector")
    with pytest.raises(UserError, match=r"--maps: .*take --view tiles"):
        run(folder, input=str(folder / "images"), maps=True)


def test_a_large_map_is_averaged_down_to_its_bound() -> None:
    logits = np.arange(100 * 10, dtype=np.float32).reshape(100, 10)
    found = np.array(bounded(logits))
    assert found.shape == (MOST_CELLS, 10)
    assert found[0].tolist() == logits[:2].mean(0).tolist()
    assert found.min() >= logits.min()
    np.testing.assert_allclose(found[-1], logits[-3:].mean(0))


def test_a_fusions_detectors_are_shown_each_by_itself(folder: Path) -> None:
    parts = [tiny_detector(seed) for seed in (1, 2)]
    detector = fused(parts, [(9.0, 0.5, 0.5), (9.0, -0.5, 0.5)], disagree_above=0.01)
    save_detector(detector, open_store(folder / "detector"))
    rows = run(folder, input=str(folder / "images"))
    shown = {card["path"]: card for card in cards((folder / "out/gallery.html").read_text())}
    names = [part.name for part in detector.spec.fusion.parts]
    for name, row in rows.items():
        p = 1 / (1 + np.exp(-np.array(row["part_logits"])))
        assert shown[name]["apart"] == pytest.approx(p.max() - p.min(), abs=1e-3)
        each = ", ".join(f"{one} {value:.3f}" for one, value in zip(names, p, strict=True))
        assert shown[name]["facts"]["each detector by itself"] == each
        disagree = p.max() - p.min() > 0.01 and not row["reason"].startswith("nothing")
        assert (shown[name]["group"] == "detectors disagree") == disagree
    assert {card["group"] for card in shown.values()} >= {"detectors disagree"}
