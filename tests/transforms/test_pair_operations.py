import numpy as np
import pytest

from rayapp.transforms import Plan, Step, apply
from rayapp.transforms.pair_operations import blend, blend_band

ONE_HWC, OTHER_HWC = np.random.default_rng(0).integers(0, 256, (2, 40, 56, 3), np.uint8)


def spectrum(image_HWC):
    return np.fft.fft2(image_HWC.astype(float), axes=(0, 1))


def test_a_blend_is_the_mean_by_share():
    found = blend(ONE_HWC, OTHER_HWC, 0.25)
    wanted = 0.25 * ONE_HWC + 0.75 * OTHER_HWC
    assert np.abs(found - wanted).max() <= 0.5
    assert np.array_equal(blend(ONE_HWC, OTHER_HWC, 1.0), ONE_HWC)
    assert np.array_equal(blend(ONE_HWC, OTHER_HWC, 0.0), OTHER_HWC)


def test_a_band_takes_its_frequencies_and_no_other():
    one, other = (image // 4 + 96 for image in (ONE_HWC, OTHER_HWC))  # nothing is clipped
    found = blend_band(one, other, 0.1, 0.3, 1.0)
    radius = np.hypot(np.fft.fftfreq(40)[:, None], np.fft.fftfreq(56)[None])
    inside = (radius >= 0.1) & (radius < 0.3)
    size = np.abs(spectrum(one)).mean()
    for part, source, foreign in ((inside, one, other), (~inside, other, one)):
        near = np.abs(spectrum(found) - spectrum(source))[part].mean()
        far = np.abs(spectrum(found) - spectrum(foreign))[part].mean()
        assert near < 0.05 * size < far


def test_all_frequencies_are_the_image_itself():
    assert np.array_equal(blend_band(ONE_HWC, OTHER_HWC, 0.0, 1.0, 1.0), ONE_HWC)
    assert np.array_equal(blend_band(ONE_HWC, OTHER_HWC, 0.8, 1.0, 1.0), OTHER_HWC)


def test_what_can_not_be_mixed_is_said():
    with pytest.raises(ValueError, match="can't be mixed"):
        blend(ONE_HWC, OTHER_HWC[1:], 0.5)
    with pytest.raises(ValueError, match="is empty"):
        blend_band(ONE_HWC, OTHER_HWC, 0.3, 0.3, 0.5)


def test_a_plan_holds_them_and_takes_the_other_image():
    plan = Plan((Step.of("blend", share=0.5), Step.of("flip", axis="horizontal")))
    again = Plan.from_json(plan.to_json())
    assert again == plan
    found = apply(again, ONE_HWC, OTHER_HWC)
    assert np.array_equal(found, blend(ONE_HWC, OTHER_HWC, 0.5)[:, ::-1])
    with pytest.raises(ValueError, match="blend mixes two images, one was given"):
        apply(plan, ONE_HWC)
    with pytest.raises(ValueError, match=r"blend takes \(share\)"):
        Step.of("blend", other_HWC=1, share=0.5)
