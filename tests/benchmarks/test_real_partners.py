"""benchmarks/real.py's photographs and their partners: views of any picture, and nothing leaks."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.real_features import NUM_BLOCKS, SIDE, WIDTH, Condition
from benchmarks.real_partners import (
    BLOCK,
    EQUALISED_QUALITY,
    EQUALISED_SIDE,
    FALSE_ALARMS,
    RENDERINGS,
    Partners,
    Photographs,
    judge_aligned,
)
from benchmarks.real_set import Picture, RealSet
from rayapp.transforms.operations import jpeg

IDENTITY = "def reconstruct(images):\n    return images\n"


def partners(folder: Path) -> Partners:
    (folder / "identity.py").write_text(IDENTITY)
    return Partners(str(folder / "identity.py"), folder)


def photograph(folder: Path, height: int, width: int) -> Path:
    file = folder / f"{height}x{width}.png"
    cv2.imwrite(
        str(file), np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )
    return file


@pytest.mark.parametrize("size", [(5, 9), (60, 700), (300, 260), (900, 700)])
@pytest.mark.parametrize("equalised", [True, False])
def test_every_picture_has_views_of_one_size(
    tmp_path: Path, size: tuple[int, int], equalised: bool
) -> None:
    made = partners(tmp_path)
    views = [make() for _, make in made.sources(photograph(tmp_path, *size), "x", equalised)]
    assert {one.shape for one in views} == {(SIDE, SIDE, 3)}
    assert len(views) == 1 + len(RENDERINGS)
    np.testing.assert_array_equal(views[0], views[1])  # at full size the identity leaves no trace
    assert (views[0] != views[2]).any()  # at half the size detail is lost


def test_a_view_has_one_name_and_one_result(tmp_path: Path) -> None:
    file = photograph(tmp_path, 300, 400)
    first, again = (partners(tmp_path).sources(file, "x", True) for _ in range(2))
    assert [name for name, _ in first] == [name for name, _ in again]
    for (_, one), (_, other) in zip(first, reversed(again), strict=True):
        assert one().shape == other().shape
    for (_, one), (_, other) in zip(first, again, strict=True):
        np.testing.assert_array_equal(one(), other())
    names = {name for at in ("x", "y") for flag in (True, False)
             for name, _ in partners(tmp_path).sources(file, at, flag)}  # fmt: skip
    assert len(names) == 4 * len(first)


def test_views_are_equalised_as_the_perturbation_does() -> None:
    image = np.random.default_rng(0).integers(0, 256, (EQUALISED_SIDE,) * 2 + (3,), dtype=np.uint8)
    seen = Condition("clean", True).apply(image, "x")
    np.testing.assert_array_equal(seen, jpeg(image, EQUALISED_QUALITY, "rgb"))


def pictures(per_kind: int = 10) -> RealSet:
    kinds = (0, "phone"), (0, "press"), (1, "SD"), (1, "Flux")
    found = [
        Picture(f"{kind}/{at}.png", origin, kind, f"{kind}/{at}")
        for origin, kind in kinds
        for at in range(per_kind)
    ]
    return RealSet(Path("nowhere"), found)


def test_no_photograph_of_the_judged_source_is_trained_on() -> None:
    one, rng = pictures(), np.random.default_rng(3)
    real = [p for p in one.pictures if not p.origin]
    sources = np.array([f"r:{p.kind}" for p in real])
    photographs = Photographs([], [], sources, np.array([p.group for p in real]))
    both = rng.normal(size=(len(real), 3, NUM_BLOCKS, WIDTH)).astype(np.float32)
    judged = rng.normal(size=(len(one.pictures), 2, NUM_BLOCKS, WIDTH)).astype(np.float32)
    sign = np.where(sources == "r:phone", -1.0, 1.0)  # each source teaches the contrary
    both[:, 1:, BLOCK - 1] += sign[:, None, None]
    judged[one.origins_N == 1, 0, BLOCK - 1] += 1
    shape = len(one.pictures), -1
    pairs = judge_aligned(
        one, photographs, both.reshape(len(real), 3, -1), {"clean": judged.reshape(shape)}
    )["clean"]
    by_source = {s: pairs.higher_SR[:, sources == s].mean() for s in set(sources)}
    assert by_source["r:phone"] > 0.99  # taught by the press
    assert by_source["r:press"] < 0.01


def test_the_threshold_is_set_on_real_images_of_other_sources() -> None:
    one, rng = pictures(200), np.random.default_rng(4)
    real = [p for p in one.pictures if not p.origin]
    sources = np.array([f"r:{p.kind}" for p in real])
    photographs = Photographs([], [], sources, np.array([p.group for p in real]))
    both = rng.normal(size=(len(real), 3, NUM_BLOCKS, WIDTH)).astype(np.float32)
    both[:, 1:, BLOCK - 1] += 5
    judged = rng.normal(size=(len(one.pictures), 2, NUM_BLOCKS, WIDTH)).astype(np.float32)
    judged[one.origins_N == 1, 0, BLOCK - 1] += 1  # fainter than what was trained on
    features = both.reshape(len(real), 3, -1), {"clean": judged.reshape(len(judged), -1)}
    pairs = judge_aligned(one, photographs, *features)["clean"]
    # Of all pairs the synthetic image is called right, and one real image in ten is not.
    assert pairs.right_SR.mean() == pytest.approx(1 - FALSE_ALARMS / 2, abs=0.03)


def test_a_package_s_photographs_are_a_source_of_their_own() -> None:
    one = pictures()
    found = Photographs.of_set(one)
    assert len(set(found.ids)) == len(found.ids) == len(found.files)
    assert set(found.sources_P) == {"r:phone", "r:press", "packages"}
    carried = [
        file for file, s in zip(found.files, found.sources_P, strict=True) if s == "packages"
    ]
    assert carried
    assert all(file.is_file() for file in carried)
