import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from rayapp.metrics.binary import evaluate
from rayapp.metrics.probability import equal_mass_starts, reliability_bins
from rayapp.metrics.scored import Scored


def calibrated(rng: np.random.Generator, num: int, power: float = 1.0) -> Scored:
    p = rng.random(num)
    return Scored.of(rng.random(num) < p, p, p**power)


@pytest.mark.slow
def test_calibrated_probabilities_have_no_error_on_average() -> None:
    rng = np.random.default_rng(0)
    errors = [evaluate(calibrated(rng, 1000))["calibration_error"].value for _ in range(100)]
    squared = np.array([np.sign(e) * e**2 for e in errors if e is not None])
    assert abs(squared.mean()) < 3 * squared.std() / np.sqrt(len(squared))


def test_planted_error_is_measured() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(200_000) < 0.3
    p = np.where(rng.random(200_000) < 0.5, 0.4, 0.41)
    error = evaluate(Scored.of(labels, p, p))["calibration_error"].value
    assert error == pytest.approx(0.105, abs=0.005)


def test_formula_on_one_bin() -> None:
    labels, p = np.array([0] * 12 + [1] * 8), np.full(20, 0.5)
    squared = (0.4 - 0.5) ** 2 - 0.4 * 0.6 / 19
    error = evaluate(Scored.of(labels, p, p))["calibration_error"].value
    assert error == pytest.approx(np.sign(squared) * np.sqrt(abs(squared)), abs=1e-12)


def test_bins_equal_scikit_learn_quantile_bins() -> None:
    scored = calibrated(np.random.default_rng(2), 1500, power=2)
    bins = reliability_bins(scored)
    share, mean = calibration_curve(
        scored.labels_N, scored.probabilities_N, n_bins=15, strategy="quantile"
    )
    np.testing.assert_allclose([b.share_synthetic for b in bins], share, atol=1e-12)
    np.testing.assert_allclose([b.mean_probability for b in bins], mean, atol=1e-12)
    assert all(b.low <= b.share_synthetic <= b.high and b.low < b.high for b in bins)


def test_ties_stay_in_one_bin() -> None:
    values = np.sort(np.repeat([0.1, 0.2, 0.9], [50, 1, 99]))
    assert equal_mass_starts(values).tolist() == [0, 50]


def test_few_items_make_one_bin_and_none_make_none() -> None:
    assert len(reliability_bins(Scored.of([1, 0], [0.2, 0.1], [0.5, 0.4]))) == 1
    assert reliability_bins(Scored.of([], [], [])) == []
