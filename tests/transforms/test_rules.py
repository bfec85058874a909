"""What rules draw: shapes of distributions, and the cases at the edge."""

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from rayapp.transforms.draws import Dice
from rayapp.transforms.perturbations import load_perturbation
from rayapp.transforms.plans import Draft, Plan, apply
from rayapp.transforms.rules import DoesNotFitError, Rule
from tests.transforms.conftest import picture

NUM = 2500
ALPHA = 1e-3  # the draws are fixed by the seed, so these tests pass or fail for ever


def drawn(rule, size_HW=(700, 900), item="x"):
    draft = Draft(size_HW)
    Rule.model_validate(rule).draw(draft, Dice(1, "test", item))
    return draft


def plans(name, size_HW):
    perturbation = load_perturbation(name)
    return [perturbation.draw(size_HW, f"item{i}", seed=42)["plain"] for i in range(NUM)]


def params(plan, op):
    return next((dict(step.params) for step in plan.steps if step.op == op), None)


def uniform(values, low, high, bins):
    counts = np.histogram(values, bins=bins, range=(low - 0.5, high + 0.5))[0]
    edges = np.linspace(low - 0.5, high + 0.5, bins + 1)
    whole = np.arange(low, high + 1)
    expected = np.histogram(whole, bins=edges)[0] / len(whole) * len(values)
    return stats.chisquare(counts, expected).pvalue > ALPHA


def test_published_perturbation_draws_as_published():
    drawn_plans = plans("imaginet-test", (700, 900))
    crops = [params(plan, "crop") for plan in drawn_plans]
    sides = np.array([c["height"] for c in crops])
    assert (sides == [c["width"] for c in crops]).all()
    assert (sides.min(), sides.max()) == (256, 700)
    assert uniform(sides, 256, 700, 20)
    for axis, length in (("top", 700), ("left", 900)):
        place = np.array([(c[axis] + 0.5) / (length - c["height"] + 1) for c in crops])
        assert stats.kstest(place, "uniform").pvalue > ALPHA
    codecs = Counter(plan.steps[-1].op for plan in drawn_plans)
    share = [codecs["jpeg"], codecs["webp"], NUM - codecs["jpeg"] - codecs["webp"]]
    assert stats.chisquare(share, np.array([0.375, 0.375, 0.25]) * NUM).pvalue > ALPHA
    qualities = [
        params(p, op)["quality"] for p in drawn_plans for op in ("jpeg", "webp") if params(p, op)
    ]
    assert (min(qualities), max(qualities)) == (60, 100)
    assert uniform(qualities, 60, 100, 41)
    assert not uniform(np.array(qualities) // 2 * 2, 60, 100, 41)  # the test can fail


def test_side_follows_the_smaller_edge_and_never_leaves_its_range():
    perturbation = load_perturbation("imaginet-test")
    for size, low, high in [
        ((100, 900), 256, 256),
        ((300, 260), 256, 260),
        ((5000, 4000), 256, 1000),
    ]:
        sides = set()
        for i in range(300):
            plan = perturbation.draw(size, f"{i}", seed=1)["plain"]
            sides.add(Draft(size).height if not plan.steps else _side(plan, size))
        assert low <= min(sides) <= max(sides) <= high


def _side(plan, size):
    height, width = size
    for step in plan.steps:
        values = dict(step.params)
        if step.op in {"crop", "pad"}:
            height, width = values["height"], values["width"]
    assert height == width
    return height


def test_training_augmentation_draws_as_published():
    drawn_plans = plans("imaginet-train", (500, 500))
    kinds = Counter()
    turns, flips, kernels, variances = Counter(), Counter(), Counter(), []
    for plan in drawn_plans:
        kind = next((s.op for s in plan.steps if s.op in {"jpeg", "webp", "blur", "noise"}), "none")
        kinds[kind] += 1
        turns[(params(plan, "rotate90") or {"turns": 0})["turns"]] += 1
        flips[(params(plan, "flip") or {"axis": ""})["axis"]] += 1
        if kind == "blur":
            kernels[params(plan, "blur")["kernel"]] += 1
        if kind == "noise":
            variances.append(params(plan, "noise")["variance"])
    wanted = {"none": 1 / 2, "jpeg": 1 / 12, "webp": 1 / 12, "blur": 1 / 6, "noise": 1 / 6}
    assert fits(kinds, wanted)
    assert fits(turns, {0: 0.67 + 0.33 / 4, 1: 0.33 / 4, 2: 0.33 / 4, 3: 0.33 / 4})
    assert fits(flips, {"": 0.67, "horizontal": 0.11, "vertical": 0.11, "both": 0.11})
    assert fits(kernels, {3: 1 / 5, 5: 2 / 5, 7: 2 / 5})
    assert stats.kstest(variances, stats.uniform(3, 7).cdf).pvalue > ALPHA


def fits(counts, shares):
    assert set(counts) == set(shares)
    expected = np.array(list(shares.values())) * counts.total()
    return stats.chisquare([counts[key] for key in shares], expected).pvalue > ALPHA


def test_head_augmentation_always_ends_at_256_px():
    perturbation, kinds = load_perturbation("imaginet-head"), Counter()
    for size in [(100, 90), (256, 256), (640, 480)]:
        for i in range(200):
            plan = perturbation.draw(size, f"{i}", seed=3)["plain"]
            kinds[bool(params(plan, "resize"))] += 1
            if i < 4:
                assert apply(plan, picture(*size)).shape == (256, 256, 3)
    assert 0.10 < kinds[True] / kinds.total() < 0.20  # 0.5 × 0.3


def test_random_resized_crop_covers_its_area_and_shape():
    areas, ratios = [], []
    for i in range(1500):
        draft = drawn({"random_resized_crop": {"side": 64}}, (1000, 1000), str(i))
        box = params(Plan(draft.steps), "crop")
        areas.append(box["height"] * box["width"] / 1e6)
        ratios.append(box["width"] / box["height"])
        assert (draft.height, draft.width) == (64, 64)
    assert 0.079 < min(areas) < 0.12
    assert max(areas) > 0.9
    small = [math.log(r) for a, r in zip(areas, ratios, strict=True) if a < 0.6]  # none refused
    span = math.log(4 / 3)
    assert stats.kstest(small, stats.uniform(-span, 2 * span).cdf).pvalue > ALPHA
    long = params(Plan(drawn({"random_resized_crop": {"side": 64}}, (2, 4000)).steps), "crop")
    assert (long["height"], long["width"], long["left"]) == (2, 2, 1999)


def test_what_is_done_to_a_small_image():
    crop = {"side": 100, "at": "centre"}
    assert [s.op for s in drawn({"crop": crop}, (50, 200)).steps] == ["crop", "pad"]
    kept = drawn({"crop": {**crop, "small": "keep"}}, (50, 200))
    assert (kept.height, kept.width) == (50, 100)
    with pytest.raises(DoesNotFitError):
        drawn({"crop": {**crop, "small": "skip"}}, (50, 200))
    assert drawn({"crop": {**crop, "small": "skip"}}, (100, 100)).steps == ()


@pytest.mark.parametrize("place", ["top_left", "top_right", "bottom_left", "bottom_right"])
def test_corner_crops(place):
    box = params(Plan(drawn({"crop": {"side": 64, "at": place}}, (100, 150)).steps), "crop")
    assert box["top"] == (36 if "bottom" in place else 0)
    assert box["left"] == (86 if "right" in place else 0)


def test_resize_by_factor_keeps_a_pixel():
    assert (drawn({"resize": {"scale": 0.5}}, (1, 301)).height) == 1
    assert (drawn({"resize": {"scale": 0.5, "filter": "area"}}, (200, 300)).width) == 150


def test_letterbox_reaches_its_ratio_and_grows_four_times_at_most():
    box = {"letterbox": {"ratio": 2.0}}
    wide, tall = drawn(box, (300, 300)), drawn(box, (100, 400))
    assert (wide.height, wide.width, tall.height, tall.width) == (300, 600, 200, 400)
    long = drawn({"letterbox": {"ratio": 0.5}}, (10, 9000))
    assert (long.height, long.width) == (40, 9000)
    assert drawn(box, (100, 200)).steps == ()


def test_a_share_is_cut_from_anywhere():
    boxes = [
        params(Plan(drawn({"crop": {"share": [0.5, 0.9]}}, (400, 600), str(i)).steps), "crop")
        for i in range(1000)
    ]
    for axis, side, length in (("top", "height", 400), ("left", "width", 600)):
        sides = np.array([box[side] for box in boxes])
        assert stats.kstest(sides / length, stats.uniform(0.5, 0.4).cdf).pvalue > ALPHA
        place = np.array([(b[axis] + 0.5) / (length - b[side] + 1) for b in boxes])
        assert stats.kstest(place, "uniform").pvalue > ALPHA


def test_several_are_drawn_once_each_and_by_weight():
    names = ["blur", "flip", "grayscale", "webp"]
    steps = [{"blur": {"kernel": 3}}, {"flip": {}}, {"grayscale": {}}, {"webp": {"quality": 50}}]
    choices = [{"weight": w, "steps": [s]} for w, s in zip([3, 1, 1, 1], steps, strict=True)]
    rule = {"several_of": {"count": [1, 3], "choices": choices}}
    done = [[s.op for s in drawn(rule, item=str(i)).steps] for i in range(1500)]
    assert all(len(set(one)) == len(one) for one in done)
    assert fits(Counter(len(one) for one in done), {1: 1 / 3, 2: 1 / 3, 3: 1 / 3})
    assert fits(Counter(one[0] for one in done), dict(zip(names, [0.5, *[1 / 6] * 3], strict=True)))


def test_choices_follow_their_weights():
    rule = {
        "one_of": {
            "choices": [
                {"weight": 3, "steps": [{"blur": {"kernel": 3}}]},
                {"weight": 1, "steps": [{"flip": {}}, {"grayscale": None}]},
            ]
        }
    }
    counts = Counter(drawn(rule, item=str(i)).steps[0].op for i in range(2000))
    assert fits(counts, {"blur": 0.75, "flip": 0.25})
    assert [s.op for s in drawn({"grayscale": {}}).steps] == ["grayscale"]


@pytest.mark.parametrize(
    ("size_HW", "expected", "filter"),
    [
        ((900, 1200), (448, 597), "area"),
        ((300, 200), (672, 448), "lanczos4"),
        ((448, 500), (448, 500), None),
    ],
)
def test_a_shorter_side_is_reached_from_either_side(size_HW, expected, filter):
    draft = drawn({"resize": {"shortest": 448, "filter": "fitting"}}, size_HW)
    assert (draft.height, draft.width) == expected
    assert [dict(step.params)["filter"] for step in draft.steps] == [filter] * (filter is not None)


def test_a_resize_names_one_size():
    with pytest.raises(ValueError, match="either side or scale or longest or shortest"):
        Rule.model_validate({"resize": {"shortest": 448, "longest": 900}})


@pytest.mark.parametrize("size_HW", [(100, 60), (300, 2000), (1500, 1100)])
def test_equalised_images_have_one_size_and_were_compressed_last(size_HW):
    perturbation = load_perturbation("equalise")
    plan = perturbation.draw(size_HW, "x", seed=0)["plain"]
    assert apply(plan, picture(*size_HW)).shape == (448, 448, 3)
    assert plan.steps[-1].op == "jpeg"
    assert plan == perturbation.draw(size_HW, "another", seed=7)["plain"]  # nothing is drawn
