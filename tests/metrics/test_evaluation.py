import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from rayapp.dataset.labels import load_scheme
from rayapp.metrics.evaluation import (
    Evaluation,
    Figure,
    Slice,
    difference,
    measure_mean,
    measure_slice,
    worst_slices,
)
from rayapp.metrics.testset import TestSet

SCHEME = load_scheme("demo")


@pytest.fixture
def test_set() -> TestSet:
    random = np.random.default_rng(0)
    generator = np.repeat([0, 1, 2, 3, 4, 4, 4, 4], 30)
    origin = (generator != 4).astype(np.int64)
    logits = random.normal(origin * (1 + generator % 4), 1.0)
    codes = {
        "origin": origin,
        "content": np.tile([0, 0, 1], 80),
        "generator": generator,
        "model": generator,
    }
    groups = np.array([f"photo {n % 6}" for n in range(240)])
    return TestSet(codes, logits, 1 / (1 + np.exp(-logits)), groups, 0.5)


def test_slices_cover_what_their_names_say(test_set: TestSet):
    slices = {(c, n): m for c, n, m in test_set.slices(SCHEME, ("bilinear + convolution",))}
    real = test_set.codes["origin"] == 0
    assert slices["", "all"].all()
    unseen = test_set.codes["generator"] == 2
    np.testing.assert_array_equal(slices["training", "seen"], ~unseen)
    np.testing.assert_array_equal(slices["training", "held-out"], unseen | real)
    np.testing.assert_array_equal(
        slices["generator", "pixel shuffle"], (test_set.codes["generator"] == 3) | real
    )
    np.testing.assert_array_equal(slices["content", "grey"], test_set.codes["content"] == 1)


def test_a_slice_that_two_columns_cut_alike_is_measured_once(test_set: TestSet):
    columns = [column for column, _, _ in test_set.slices(SCHEME)]
    assert "generator" in columns
    assert "model" not in columns


def test_figures_of_a_slice(test_set: TestSet):
    mask = (test_set.codes["generator"] == 1) | (test_set.codes["origin"] == 0)
    part = measure_slice(test_set, "generator", "x", mask, seed=1, resamples=200)
    expected = roc_auc_score(test_set.codes["origin"][mask], test_set.logits_N[mask])
    auc = part.figures["roc_auc"]
    assert auc.value == pytest.approx(expected, abs=1e-12)
    assert auc.low is not None
    assert auc.high is not None
    assert auc.low < expected < auc.high
    assert part == measure_slice(test_set, "generator", "x", mask, seed=1, resamples=200)
    assert part != measure_slice(test_set, "generator", "x", mask, seed=2, resamples=200)


def test_a_class_missing_has_a_reason_and_no_number(test_set: TestSet):
    real = test_set.codes["origin"] == 0
    part = measure_slice(test_set, "content", "x", real, seed=1, resamples=100)
    assert part.figures["roc_auc"].value is None
    assert "0 synthetic" in part.figures["roc_auc"].reason


def test_json_round_trip(test_set: TestSet):
    mask = np.ones(240, dtype=bool)
    whole = measure_slice(test_set, "", "all", mask, seed=1, resamples=100)
    evaluation = Evaluation(
        suite="s",
        test_set="t",
        detector_name="d",
        detector="d",
        annotations=("a",),
        scheme="demo",
        detector_hash="h",
        calibration_hash=None,
        threshold=0.5,
        band=None,
        resampled="images",
        num_groups=6,
        evidence="e",
        slices=[whole],
    )
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation
    assert evaluation.whole.figures["roc_auc"] == Figure.of(whole.figures["roc_auc"].measure())


def test_the_mean_and_the_worst_of_slices(test_set: TestSet):
    parts = [part for part in test_set.slices(SCHEME) if part[0] == "generator"]
    rows = [measure_slice(test_set, *part, seed=1, resamples=100) for part in parts]
    mean = measure_mean(test_set, parts, seed=1, resamples=100)
    values = {row.name: row.figures["roc_auc"].value for row in rows}
    assert mean.figures["roc_auc"].value == pytest.approx(np.mean(list(values.values())))
    assert (mean.num_real, mean.num_synthetic) == (120, 120)
    worst = worst_slices(rows)
    assert worst["roc_auc"].name == min(values, key=lambda name: (values[name], name))
    eers = {row.name: row.figures["eer"].value for row in rows}
    assert worst["eer"].figure.value == max(eers.values())


def test_difference_to_a_published_figure():
    figure = Figure(value=0.9, low=0.85, high=0.95)
    part = Slice(
        column="",
        name="GAN",
        num_real=1,
        num_synthetic=1,
        figures={"roc_auc": figure},
        published={"roc_auc": 0.86},
    )
    assert difference(part, "roc_auc") == (pytest.approx(0.04), True)
    outside = part.model_copy(update={"published": {"roc_auc": 0.99}})
    assert difference(outside, "roc_auc") == (pytest.approx(-0.09), False)
    assert difference(part.model_copy(update={"published": {}}), "roc_auc") is None
