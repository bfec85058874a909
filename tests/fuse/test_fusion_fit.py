import numpy as np
import pytest
from scipy import optimize, special

from rayapp.config.errors import UserError
from rayapp.fuse.fusion_fit import check_direction, fit_weights, judge
from rayapp.metrics.ranking import roc_auc
from rayapp.models.calibration.fits import smoothed_targets

NAMES = ["a", "b", "c"]


def _scored(num: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of three parts: a good one, one half as good that errs apart, and a poor one."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(num) % 2).astype(np.int64)
    sign = 2.0 * labels - 1
    good, fair = (sign * gap + rng.normal(size=num) for gap in (1.0, 0.6))
    return np.column_stack(
        [3 * good + 5, 0.2 * fair - 1, 0.3 * sign + rng.normal(size=num)]
    ), labels


def _log_odds(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    fitted = fit_weights("mean", logits, labels, NAMES)
    return logits * np.array(fitted.slopes) + np.array(fitted.shifts)


def test_mean_is_of_log_odds_whatever_the_scale_of_the_logits() -> None:
    logits, labels = _scored()
    fitted = fit_weights("mean", logits, labels, NAMES)
    assert fitted.weights == [pytest.approx(1 / 3)] * 3
    assert fitted.bias == 0
    scaled = fit_weights("mean", logits * [10, 1, 0.1] + [0, 50, -3], labels, NAMES)
    moved = scaled.fused(logits * [10, 1, 0.1] + [0, 50, -3])
    np.testing.assert_allclose(moved, fitted.fused(logits), atol=1e-6)


def test_weighted_goes_by_how_well_each_ranks() -> None:
    logits, labels = _scored()
    fitted = fit_weights("weighted", logits, labels, NAMES)
    shares = np.array([2 * (roc_auc(labels, one).value or 0) - 1 for one in logits.T])
    np.testing.assert_allclose(fitted.weights, shares / shares.sum())


def test_stacking_is_the_best_of_all_weights_that_are_not_negative() -> None:
    logits, labels = _scored()
    fitted = fit_weights("stacking", logits, labels, NAMES)
    assert min(fitted.weights) >= 0
    x, targets = _log_odds(logits, labels), smoothed_targets(labels.astype(float))

    def loss(weights: np.ndarray) -> float:
        z = x @ weights[:3] + weights[3]
        return float((np.logaddexp(0, z) - targets * z).mean())

    found = np.array([*fitted.weights, fitted.bias])
    for start in (np.zeros(4), np.ones(4), np.array([0, 3.0, 0, 1])):  # another way, several starts
        other = optimize.minimize(
            loss, start, method="SLSQP", bounds=[(0, None)] * 3 + [(None, None)],
            options={"ftol": 1e-14},
        )  # fmt: skip
        assert loss(found) <= other.fun + 1e-7
        np.testing.assert_allclose(found, other.x, atol=2e-3)


def test_a_part_that_only_repeats_and_errs_gets_no_weight() -> None:
    logits, labels = _scored()
    worse = logits[:, 0] + np.random.default_rng(9).normal(0, 6, len(labels))
    fitted = fit_weights("stacking", np.column_stack([logits[:, 0], worse]), labels, NAMES[:2])
    good, repeated = np.array(fitted.weights) * fitted.slopes
    assert repeated < 0.05 * good


def test_scores_that_run_against_the_labels_are_refused() -> None:
    logits, labels = _scored()
    with pytest.raises(UserError, match="b: its scores run against the labels"):
        check_direction(logits * [1, -1, 1], labels, NAMES)
    check_direction(logits, labels, NAMES)
    assert fit_weights("stacking", logits * [1, -1, 1], labels, NAMES).weights[1] == 0
    with pytest.raises(UserError, match=r"^c: "):
        fit_weights("mean", logits * [1, 1, 0], labels, NAMES)


@pytest.mark.parametrize("method", ["mean", "weighted", "stacking"])
def test_detectors_that_rank_by_chance_or_worse_are_not_fused(method: str) -> None:
    labels_N = np.array([0, 0, 0, 1, 1, 1])
    logits_NP = np.array([[3.0, 2, 1, 2, 1, 0], [1, 3, 2, 2, 0, 1]]).T  # too few to be surely wrong
    with pytest.raises(UserError, match="no detector ranks these images"):
        fit_weights(method, logits_NP, labels_N, ["a", "b"])


def test_the_fusion_beats_each_part_and_is_judged_where_it_did_not_look() -> None:
    logits, labels = _scored()
    figures = judge("stacking", logits, labels, NAMES, [f"{i}" for i in range(len(labels))])
    assert figures.folds == 5
    best = max(part.auc or 0 for part in figures.parts)
    assert (figures.auc or 0) > best
    gain = figures.parts[0].gain
    assert gain.value == pytest.approx((figures.auc or 0) - (figures.parts[0].auc or 0))
    assert gain.low is not None
    assert gain.low < (gain.value or 0)


def test_noise_gains_nothing_out_of_fold() -> None:
    """Fitted on its own images a fusion of noise would rank above chance."""
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 2
    logits = rng.normal(size=(40, 3)) + 0.3 * labels[:, None]
    whole = fit_weights("stacking", logits, labels, NAMES).fused(logits)
    figures = judge("stacking", logits, labels, NAMES, [f"{i}" for i in range(40)])
    assert (figures.auc or 0) < (roc_auc(labels, whole).value or 0)


def test_images_of_one_photograph_stay_in_one_fold_and_order_does_not_count() -> None:
    logits, labels = _scored(120)
    names = [f"{i // 4}-{labels[i]}" for i in range(120)]
    figures = judge("weighted", logits, labels, NAMES, names)
    order = np.random.default_rng(0).permutation(120)
    moved = judge("weighted", logits[order], labels[order], NAMES, [names[at] for at in order])
    assert figures.auc == pytest.approx(moved.auc, abs=1e-6)
    assert figures.parts[0].gain.num_groups == 60


def test_too_few_images_are_judged_on_themselves() -> None:
    logits, labels = _scored(16)
    figures = judge("mean", logits, labels, NAMES, [f"{i}" for i in range(16)])
    assert figures.folds == 0
    fused = fit_weights("mean", logits, labels, NAMES).fused(logits)
    assert figures.auc == roc_auc(labels, special.expit(fused)).value
