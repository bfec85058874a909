import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from rayapp.labels import load_scheme
from rayapp.metrics.evaluation import Evaluation, Figure, TestSet, measure_slice

SCHEME = load_scheme("demo")


@pytest.fixture
def test_set() -> TestSet:
    random = np.random.default_rng(0)
    generator = np.repeat([0, 1, 2, 3, 4, 4, 4, 4], 30)
    origin = (generator != 4).astype(np.int64)
    logits = random.normal(origin * (1 + generator % 4), 1.0)
    codes = {"origin": origin, "content": np.tile([0, 0, 1], 80), "generator": generator,
             "model": generator}  # fmt: skip
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
        test_set="t", detector="d", scores="s", annotations="a", scheme="demo", held_out=(),
        detector_hash="h", calibration_hash=None, threshold=0.5, band=None, resampled="images",
        num_groups=6, slices=[whole],
    )  # fmt: skip
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation
    assert evaluation.whole.figures["roc_auc"] == Figure.of(whole.figures["roc_auc"].measure())
