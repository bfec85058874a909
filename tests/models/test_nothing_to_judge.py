from pathlib import Path

import numpy as np
import pytest

from rayapp.dataset.images import decode
from rayapp.models.detector_spec import Preprocessing
from rayapp.models.empty_views import NOISE
from rayapp.models.nothing_to_judge import TOO_FEW, kind_of, nothing_to_judge
from rayapp.models.preprocessing import cut_views
from tests.degenerate import KINDS, files
from tests.detectors import tiny_detector
from tests.models.test_folder import with_spec
from tests.pictures import photographed


def reason_of(pixels_HWC: np.ndarray, min_side_px: int | None = None, **seen: object) -> str:
    preprocessing = Preprocessing(**seen)
    views_KHWC = cut_views(pixels_HWC, preprocessing)
    return nothing_to_judge(views_KHWC, pixels_HWC.shape[:2], preprocessing, min_side_px)


@pytest.mark.parametrize("name", KINDS)
def test_a_picture_of_nothing_gets_no_verdict(name: str):
    opened = [decode(file).pixels_HWC for file in files(name)]
    for pixels_HWC in opened:
        assert reason_of(pixels_HWC)
        assert reason_of(pixels_HWC, size=224, view="resize")
    assert reason_of(opened[1], view="five")
    assert nothing_to_judge(opened[1][None], opened[1].shape[:2], None)


@pytest.mark.parametrize("view", ["centre", "five", "tiles", "resize"])
@pytest.mark.parametrize("size_HW", [(256, 256), (600, 400), (300, 2000), (256, 190)])
def test_a_picture_with_detail_is_judged(view: str, size_HW: tuple[int, int]):
    for seed in range(3):
        assert reason_of(photographed(*size_HW, seed), view=view) == ""


@pytest.mark.parametrize("side", [32, 64, 128])
def test_small_views_judge_small_pictures(side: int):
    assert reason_of(photographed(side, side), size=side) == ""
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    assert reason_of(noise, size=side) == NOISE


def test_too_few_pixels_are_told_with_both_sizes():
    assert reason_of(photographed(180, 180)) == (
        "too few pixels: 180×180, seen as 256×256, most of it mirrored"
    )
    assert reason_of(photographed(182, 182)) == ""  # half of the view
    assert "enlarged" in reason_of(photographed(150, 900), size=224, view="resize")
    assert reason_of(photographed(160, 900), size=224, view="resize") == ""
    assert reason_of(photographed(300, 300), min_side_px=301) == (
        "too few pixels: 300×300, this detector judges from 301 px on"
    )
    assert kind_of(reason_of(photographed(40, 40))) == TOO_FEW


def test_one_view_with_something_is_enough():
    pixels_HWC = np.full((900, 900, 3), 90, np.uint8)
    pixels_HWC[-256:, -256:] = photographed(256, 256)
    assert reason_of(pixels_HWC)
    assert reason_of(pixels_HWC, view="five") == reason_of(pixels_HWC, view="tiles") == ""
    assert nothing_to_judge(pixels_HWC[None], (900, 900), None) == ""


def test_the_detectors_own_minimum_holds_and_scores_stand():
    plain = tiny_detector()
    strict = with_spec(plain, min_side_px=100)
    noise = np.random.default_rng(0).integers(0, 256, (99, 200, 3), np.uint8)
    images = [photographed(99, 200), photographed(100, 200), noise]
    reasons = [kind_of(one.reason) for one in plain.judge(images)]
    assert reasons == ["uncalibrated", "uncalibrated", NOISE]
    judged = strict.judge(images)
    assert [one.verdict == "unsure" for one in judged] == [True, False, True]
    np.testing.assert_allclose(
        [one.probability for one in judged], strict.probability(images), atol=1e-6
    )
    assert strict.hash() == plain.hash()


@pytest.mark.parametrize("name", ["gravel.png", "grass.png", "coffee.png", "retina.jpg"])
def test_textures_and_dark_grounds_of_photographs_are_judged(name: str):
    skimage = pytest.importorskip("skimage", reason="scikit-image is not installed")
    photo = Path(skimage.__file__).parent / "data" / name
    pixels_HWC = decode(photo.read_bytes()).pixels_HWC
    for top in range(0, pixels_HWC.shape[0] - 255, 128):
        part_HWC = pixels_HWC[top : top + 256, 100:356]
        assert reason_of(part_HWC) == "", top


def test_a_strip_of_a_photograph_beside_a_gradient_is_judged():
    pixels_HWC = np.zeros((256, 256, 3), np.uint8)
    pixels_HWC[...] = np.linspace(90, 200, 256)[:, None, None].round()
    assert reason_of(pixels_HWC)
    pixels_HWC[:, :30] = photographed(256, 30)
    assert reason_of(pixels_HWC) == ""
