"""Maps kept beside scores: of tiles always, of patches where they are asked for; in the gallery."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rayapp import load_detector
from rayapp.config.errors import UserError
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Pool, Preprocessing, View
from rayapp.models.folder import save_detector
from rayapp.predict.score_maps import MOST_CELLS, bounded, no_fused_map
from rayapp.predict.summary import summary_lines
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


def saved_fusion(folder: Path, parts: list[Detector]) -> Detector:
    whole = fused(parts, [(2.0, 0.5, 0.7), (1.5, -0.25, 0.2)], bias=0.3, disagree_above=None)
    save_detector(whole, open_store(folder / "detector"))
    return whole


def summary(folder: Path, name: str = "out") -> str:
    results = json.loads((folder / name / "run.json").read_text())["results"]
    return "\n".join(summary_lines({"failed": 0}, results))


def test_a_fusion_of_tiles_keeps_the_fused_map(folder: Path) -> None:
    parts = [tiny_detector(seed).seen_as("tiles") for seed in (1, 2)]
    saved_fusion(folder, parts)
    rows = run(folder, input=str(folder / "images"))
    assert rows["c.png"]["map_logits"] is None  # one tile
    for name, shape in (("a.png", (3, 4)), ("b.png", (2, 2))):
        cells = np.array(rows[name]["map_logits"])
        assert cells.shape == shape
        assert cells.mean() == pytest.approx(rows[name]["logit"], abs=1e-5)
    pixels = np.array(Image.open(folder / "images/b.png"))
    corners = [pixels[top : top + 32, left : left + 32] for top in (0, 8) for left in (0, 32)]
    one, two = (part.seen_as("centre").logits(corners).astype(float) for part in parts)
    expected = 0.3 + 0.7 * (2.0 * one + 0.5) + 0.2 * (1.5 * two - 0.25)
    np.testing.assert_allclose(np.ravel(rows["b.png"]["map_logits"]), expected, atol=1e-5)
    page = (folder / "out/gallery.html").read_text()
    shown = {card["path"]: card.get("map") for card in cards(page)}
    assert shown["c.png"] is None
    assert shown["a.png"]["num_columns"] == 4
    assert shown["a.png"]["box"] == [0.0, 0.0, 1.0, 1.0]
    assert "no map" not in summary(folder)


@pytest.mark.parametrize(
    ("view", "size", "why"), [("tiles", 40, "on different grids"), ("centre", 32, "not every")]
)
def test_a_fusion_without_a_common_grid_keeps_no_map_and_says_so(
    folder: Path, view: View, size: int, why: str
) -> None:
    saved_fusion(folder, [tiny_detector(1).seen_as("tiles"), tiny_detector(2).seen_as(view, size)])
    rows = run(folder, input=str(folder / "images"))
    assert [row["map_logits"] for row in rows.values()] == [None] * 3
    assert [row["status"] for row in rows.values()] == ["ok"] * 3
    (line,) = (one for one in summary(folder).splitlines() if one.startswith("no map is kept"))
    assert why in line
    with pytest.raises(UserError, match=rf"--maps: .*{why}.* `imaginet explain`"):
        run(folder, "asked", input=str(folder / "images"), maps=True)


def of_patches(seed: int, pool: Pool = "mean", **seen: Any) -> Detector:
    network = made(seed=seed, pool=pool)
    spec = DetectorSpec(
        architecture=architecture(pool=pool),
        strides=network.backbones[0].strides(),
        preprocessing=Preprocessing(size=32, **seen),
    )
    return Detector(network, spec)


def test_a_fusion_of_patches_keeps_the_fused_map_where_it_is_asked_for(folder: Path) -> None:
    parts = [of_patches(1), of_patches(2, "attention")]
    saved_fusion(folder, parts)
    plain = run(folder, "plain", input=str(folder / "images"))
    rows = run(folder, input=str(folder / "images"), maps=True)
    for name, row in rows.items():
        assert plain[name]["map_logits"] is None
        assert row["logit"] == pytest.approx(plain[name]["logit"], abs=1e-5)
        path = folder / "images" / name
        one, two = (part.patch_logits([path])[0].astype(float) for part in parts)
        expected = 0.3 + 0.7 * (2.0 * one + 0.5) + 0.2 * (1.5 * two - 0.25)
        np.testing.assert_allclose(row["map_logits"], expected, atol=1e-4)
    shown = {card["path"]: card["map"] for card in cards((folder / "out/gallery.html").read_text())}
    np.testing.assert_allclose(shown["b.png"]["box"], [0.25, 0.1, 0.5, 0.8])  # what both looked at


def test_patches_of_other_sights_have_no_common_grid() -> None:
    assert no_fused_map([of_patches(1), of_patches(2)], of_patches=True) == ""
    resized = [of_patches(1), of_patches(2, view="resize")]
    assert no_fused_map(resized, of_patches=True).endswith("on different grids")
    assert no_fused_map([of_patches(1), tiny_detector()], of_patches=True).startswith("not every")
