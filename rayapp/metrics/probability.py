"""Figures of probabilities: proper scores, and calibration in equal-mass bins."""

from dataclasses import dataclass

import numpy as np

from rayapp.metrics.measure import Floats, Ints
from rayapp.metrics.ranking import threshold_ends
from rayapp.metrics.scored import Scored

NUM_BINS = 15
MIN_PER_BIN = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Mean probability and share of synthetics of one equal-mass bin, with a 95 % interval.

    The interval is Wilson's for the share, as if the items were independent.
    """

    num_items: int
    mean_probability: float
    share_synthetic: float
    low: float
    high: float


def log_losses(labels_N: Ints, probabilities_N: Floats) -> Floats:
    """Negative log-likelihood of each item in nats, probabilities clipped to [2e-16, 1 - 2e-16].

    The clip is scikit-learn's, so that a wrong 0 or 1 costs 36 and not infinity.
    """
    epsilon = np.finfo(np.float64).eps
    clipped = np.clip(probabilities_N, epsilon, 1 - epsilon)
    return np.where(labels_N == 1, -np.log(clipped), -np.log(1 - clipped))


def equal_mass_starts(sorted_N: Floats, num_bins: int = NUM_BINS) -> Ints:
    """First positions of at most `num_bins` bins of about equal numbers of sorted probabilities.

    Equal probabilities stay together, and there are at least 10 items a bin where N >= 10.
    """
    num_items = len(sorted_N)
    num_bins = max(1, min(num_bins, num_items // MIN_PER_BIN))
    ends = threshold_ends(sorted_N) + 1
    starts = [0]
    for left in range(num_bins, 1, -1):
        target = starts[-1] + (num_items - starts[-1]) / left
        end = int(ends[np.searchsorted(ends, target)])
        if num_items - end < MIN_PER_BIN:
            break
        starts.append(end)
    return np.array(starts, dtype=np.int64)


def squared_calibration_error(
    labels_N: Ints, probabilities_N: Floats, weights_RN: Floats, starts_K: Ints
) -> Floats:
    """Debiased squared calibration error over bins of items sorted by probability; shape R.

    Sum over bins of n_k / n × [(mean label - mean probability)² - s(1 - s) / (n_k - 1)], s the
    mean label: the second term is what sampling alone adds to the first (Kumar, Liang and Ma,
    NeurIPS 2019; Ferro and Fricker 2012). It is negative where there is less than that.
    """
    num_RK = np.add.reduceat(weights_RN, starts_K, axis=1)
    at_least = np.maximum(num_RK, 1)
    label_RK = np.add.reduceat(weights_RN * labels_N, starts_K, axis=1) / at_least
    probability_RK = np.add.reduceat(weights_RN * probabilities_N, starts_K, axis=1) / at_least
    noise_RK = label_RK * (1 - label_RK) / np.maximum(num_RK - 1, 1)
    terms_RK = num_RK * ((label_RK - probability_RK) ** 2 - noise_RK)
    return np.asarray(terms_RK.sum(axis=1) / np.maximum(num_RK.sum(axis=1), 1))


def signed_root(squared: Floats) -> Floats:
    """Root with the sign kept: brings a squared error to the unit of a probability."""
    return np.sign(squared) * np.sqrt(np.abs(squared))


def reliability_bins(scored: Scored, num_bins: int = NUM_BINS) -> list[ReliabilityBin]:
    """Equal-mass bins from low to high probability; fewer bins where N is below 10 a bin."""
    if not len(scored.labels_N):
        return []
    order = np.argsort(scored.probabilities_N, kind="stable")
    probabilities, labels = scored.probabilities_N[order], scored.labels_N[order]
    starts = equal_mass_starts(probabilities, num_bins)
    bins = []
    for start, end in zip(starts, [*starts[1:], len(labels)], strict=True):
        num_items, share = int(end - start), float(labels[start:end].mean())
        low, high = wilson_interval(share, num_items)
        mean = float(probabilities[start:end].mean())
        bins.append(ReliabilityBin(num_items, mean, share, low, high))
    return bins


def wilson_interval(share: float, num_items: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share among independent items."""
    z2 = 1.959963984540054**2 / num_items
    centre = (share + z2 / 2) / (1 + z2)
    half = float(np.sqrt(z2 * (share * (1 - share) + z2 / 4)) / (1 + z2))
    return max(0.0, centre - half), min(1.0, centre + half)
