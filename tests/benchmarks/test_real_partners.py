"""benchmarks/real.py's photographs and their partners: views of any picture, and nothing leaks."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.real_features import NUM_BLOCKS, WIDTH, Condition
from benchmarks.real_partners import (
    BLOCK,
    RENDERINGS,
    SHORTER_SIDES,
    Partners,
    Photographs,
    judge_aligned,
)
from benchmarks.real_probe import fit_probe
from benchmarks.real_set import Picture, RealSet

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
def test_every_picture_has_partners_of_one_size(
    tmp_path: Path, size: tuple[int, int], equalised: bool
) -> None:
    made = partners(tmp_path).sources(
        photograph(tmp_path, *size), "x", Condition("clean", equalised)
    )
    shapes = {picture().shape for _, picture in made}
    assert len(shapes) == 1
    assert len(made) == 1 + len(RENDERINGS)
    side = max(16, min(min(size) // 16 * 16, max(SHORTER_SIDES)))
    assert shapes.pop()[0] <= (448 if equalised else side)


def test_what_renders_as_it_is_leaves_no_trace_but_that_of_half_the_size(tmp_path: Path) -> None:
    file = photograph(tmp_path, 300, 260)
    pictures = [
        one() for _, one in partners(tmp_path).sources(file, "x", Condition("clean", False))
    ]
    for rendering, partner in zip(RENDERINGS, pictures[1:], strict=True):
        assert (partner == pictures[0]).all() == (rendering.scale == 1)


def test_a_picture_has_one_name_and_one_result(tmp_path: Path) -> None:
    file = photograph(tmp_path, 300, 400)
    conditions = Condition("clean", True), Condition("clean", False)
    first, again = (partners(tmp_path).sources(file, "x", conditions[0]) for _ in range(2))
    assert [name for name, _ in first] == [name for name, _ in again]
    for (_, one), (_, other) in zip(first, again, strict=True):
        np.testing.assert_array_equal(one(), other())
    names = {
        name
        for item_id in ("x", "y")
        for condition in conditions
        for name, _ in partners(tmp_path).sources(file, item_id, condition)
    }
    assert len(names) == 4 * len(first)


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


def test_the_threshold_keeps_to_the_false_alarms_that_are_allowed() -> None:
    rng, count = np.random.default_rng(4), 400
    origins = np.tile([0, 1], count)
    features = rng.normal(size=(2 * count, 5)).astype(np.float32)
    features[:, 0] += 3 * origins
    groups = np.repeat([f"photo {at}" for at in range(count)], 2)
    kinds = np.repeat(np.array(["a", "b"]), count)
    probe = fit_probe(features, origins, kinds, groups, (1.0,), 0.2)
    called = probe.scores(features[origins == 0]) >= probe.threshold
    assert called.mean() == pytest.approx(0.2, abs=0.03)


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
