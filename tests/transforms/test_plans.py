import time
from collections import Counter

import cv2
import numpy as np
import pytest

from rayapp.transforms import operations, plans
from rayapp.transforms.operations import crop
from rayapp.transforms.perturbations import load_perturbation
from rayapp.transforms.plans import Draft, Plan, Step, apply, apply_each, split_window
from tests.transforms.conftest import picture

EVERYTHING = Plan(
    (
        Step.of("crop", top=3, left=5, height=60, width=70),
        Step.of("pad", height=80, width=80),
        Step.of("letterbox", height=90, width=80, level=20),
        Step.of("rotate90", turns=1),
        Step.of("flip", axis="vertical"),
        Step.of("resize", height=64, width=48, filter="area"),
        Step.of("noise", variance=7.25, seed=2**63 - 1),
        Step.of("blur", kernel=3),
        Step.of("grayscale"),
        Step.of("jpeg", quality=77, channels="bgr"),
        Step.of("webp", quality=66, channels="rgb"),
    )
)


def test_json_round_trip_makes_the_same_pixels():
    assert {step.op for step in EVERYTHING.steps} == set(operations.OPERATIONS)
    again = Plan.from_json(EVERYTHING.to_json())
    assert again == EVERYTHING
    image = picture(90, 100)
    np.testing.assert_array_equal(apply(again, image), apply(EVERYTHING, image))
    other = Plan.from_json(EVERYTHING.to_json().replace('"variance":7.25', '"variance":7.5'))
    assert not np.array_equal(apply(other, image), apply(EVERYTHING, image))


def test_stored_form_is_readable_and_stable():
    plan = Plan((Step.of("jpeg", quality=60, channels="rgb"), Step.of("grayscale")))
    text = '[{"op":"jpeg","quality":60,"channels":"rgb"},{"op":"grayscale"}]'
    assert plan.to_json() == text
    assert Plan().to_json() == "[]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"op":"sharpen"}]', "unknown operation 'sharpen'"),
        ('[{"op":"jpeg","quality":60}]', r"jpeg takes \(channels, quality\), got \(quality\)"),
        ('[{"op":"blur","kernel":3,"sigma":1}]', r"blur takes \(kernel\), got \(kernel, sigma\)"),
    ],
)
def test_a_plan_that_cannot_be_done_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Plan.from_json(text)


def test_result_is_contiguous_and_the_source_untouched():
    image = picture(90, 100)
    before = image.copy()
    result = apply(Plan(EVERYTHING.steps[:1]), image)
    assert result.flags.c_contiguous
    assert not np.shares_memory(result, image)
    apply(EVERYTHING, image)
    np.testing.assert_array_equal(image, before)
    assert apply(Plan(), image) is image


def test_square_equals_padding_first_and_cropping_then():
    rng = np.random.default_rng(3)
    for size in [(30, 90), (90, 30), (20, 25), (64, 64), (100, 80), (1, 200)]:
        image = picture(*size)
        top = int(rng.integers(0, max(size[0], 64) - 64 + 1))
        left = int(rng.integers(0, max(size[1], 64) - 64 + 1))
        draft = Draft(size)
        draft.square(64, top, left)
        expected = crop(operations.pad(image, 64, 64), top, left, 64, 64)
        np.testing.assert_array_equal(apply(Plan(draft.steps), image), expected)
        assert (draft.height, draft.width) == (64, 64)


def test_draft_leaves_out_what_does_nothing():
    draft = Draft((64, 64))
    draft.square(64, 0, 0)
    draft.reshape("resize", 64, 64, filter="area")
    draft.rotate(0)
    assert draft.steps == ()
    draft.reshape("resize", 10, 20, filter="area")
    draft.rotate(3)
    assert (draft.height, draft.width) == (20, 10)


def test_split_window_reads_only_the_crop():
    image = picture(90, 100)
    window, rest = split_window(EVERYTHING, (90, 100))
    assert window == (3, 5, 60, 70)
    np.testing.assert_array_equal(apply(rest, crop(image, *window)), apply(EVERYTHING, image))
    assert split_window(rest, (60, 70)) == ((0, 0, 60, 70), rest)


def test_a_grid_does_its_common_steps_once(monkeypatch):
    calls = Counter()
    for name, operation in operations.OPERATIONS.items():

        def counted(*args, _name=name, _operation=operation, **params):
            calls[_name] += 1
            return _operation(*args, **params)

        monkeypatch.setitem(plans.OPERATIONS, name, counted)  # the real operation, counted
    drawn = load_perturbation("jpeg-grid").draw((600, 800), "a.jpg", seed=1)
    image = picture(600, 800)
    made = dict(apply_each(drawn, image))
    assert calls == {"crop": 1, "jpeg": 13}
    assert list(made) == list(drawn)
    for name, plan in drawn.items():
        np.testing.assert_array_equal(made[name], apply(plan, image))


def test_grids_of_one_none_and_no_common_step():
    image = picture(40, 40)
    assert dict(apply_each({}, image)) == {}
    blur, flip = Plan((Step.of("blur", kernel=3),)), Plan((Step.of("flip", axis="both"),))
    for variants in ({"a": blur}, {"a": blur, "b": flip}, {"a": Plan(), "b": blur}):
        for name, made in apply_each(variants, image):
            np.testing.assert_array_equal(made, apply(variants[name], image))


def test_a_huge_image_costs_its_crop_only():
    image = np.zeros((8192, 8192, 3), np.uint8)
    plan = load_perturbation("imaginet-train").draw((8192, 8192), "huge.png", seed=1)["plain"]
    start = time.process_time()
    result = apply(plan, image)
    assert result.shape == (96, 96, 3)
    assert time.process_time() - start < 0.1
    assert cv2.getNumThreads() == 1  # applying leaves the caller's setting alone
