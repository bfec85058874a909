import numpy as np
import pytest

from rayapp.config.errors import UserError
from rayapp.models.calibration.decisions import abstain_band, threshold_at_fpr


@pytest.mark.parametrize("fpr", [0.01, 0.05, 0.29])
def test_threshold_keeps_the_rate_and_is_the_smallest_that_does(fpr: float) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    p = np.round(rng.random(1000), 2)
    threshold = threshold_at_fpr(p, labels, fpr)
    real = p[labels == 0]
    assert (real >= threshold).mean() <= fpr
    lower = real[real < threshold].max()
    assert (real >= lower).mean() > fpr


def test_threshold_counts_exact_shares() -> None:
    p = np.arange(100) / 100
    assert (p >= threshold_at_fpr(p, np.zeros(100), 0.29)).sum() == 29


def test_too_few_reals_are_refused() -> None:
    with pytest.raises(UserError, match="at least 20 real calibration items, got 12"):
        threshold_at_fpr(np.arange(12) / 12, np.zeros(12), 0.05)


def test_answers_outside_the_band_are_right_often_enough() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(4000)
    labels = (rng.random(4000) < p).astype(int)
    band = abstain_band(p, labels, error=0.05)
    assert band is not None
    low, high = band
    assert 0 < low < 0.5 < high < 1
    assert labels[p < low].mean() <= 0.05
    assert 1 - labels[p >= high].mean() <= 0.05
    # Below p the mean of a uniform p is p / 2, so the edges lie near 0.1 and 0.9.
    assert low == pytest.approx(0.1, abs=0.03)
    assert high == pytest.approx(0.9, abs=0.03)


def test_a_sure_detector_needs_no_band_and_a_blind_one_never_answers() -> None:
    labels = np.repeat([0, 1], 100)
    sure = np.where(labels == 1, 0.9, 0.1)
    assert abstain_band(sure, labels) == (0.5, 0.5)
    blind = abstain_band(np.full(200, 0.5), labels)
    assert blind is not None
    assert blind[0] <= 0.5 < blind[1]


def test_no_band_on_few_items() -> None:
    assert abstain_band(np.arange(60) / 60, np.repeat([0, 1], [49, 11])) is None
