"""Figures that depend on the order of the scores only: ROC and PR curves and what is read off them.

All work on `Counts`, weighted numbers of items at or above each distinct score, so that R
resamples are R rows of weights. A figure that is not defined in a row is NaN there; callers
outside this room get a Measure with the reason instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from rayapp.metrics.measure import Measure, class_reason

if TYPE_CHECKING:
    from rayapp.metrics.measure import Floats, Ints
    from rayapp.metrics.scored import Scored


@dataclass(frozen=True)
class Counts:
    """Weighted synthetics and reals at or above each threshold; column 0 is above all scores."""

    synthetic_RT: Floats
    real_RT: Floats


@dataclass(frozen=True)
class Curve:
    """A ROC curve (x: FPR, y: TPR) or PR curve (x: recall, y: precision), from strict to lax.

    `threshold_T` is the score at or above which an item is called synthetic; the first point,
    above all scores, has threshold infinity.
    """

    x_T: Floats
    y_T: Floats
    threshold_T: Floats


def threshold_ends(scores_N: Floats) -> Ints:
    """Last position of each run of equal scores in a sorted array."""
    return np.append(np.flatnonzero(np.diff(scores_N)), len(scores_N) - 1).astype(np.int64)


def count_above(labels_N: Ints, ends_T: Ints, weights_RN: Floats) -> Counts:
    """Counts for items sorted by falling score, ties taken whole."""

    def cumulate(weights: Floats) -> Floats:
        totals = np.zeros((len(weights), len(ends_T) + 1))
        totals[:, 1:] = np.cumsum(weights, axis=1)[:, ends_T]
        return totals

    synthetic = cumulate(weights_RN * labels_N)
    return Counts(synthetic, cumulate(weights_RN) - synthetic)


def _rates(counts: Counts) -> tuple[Floats, Floats]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            counts.real_RT / counts.real_RT[:, -1:],
            counts.synthetic_RT / counts.synthetic_RT[:, -1:],
        )


def auc(counts: Counts) -> Floats:
    """Area under the ROC curve, a tie counted half; shape R."""
    synthetic, real = counts.synthetic_RT, counts.real_RT
    doubled = (np.diff(real, axis=1) * (synthetic[:, 1:] + synthetic[:, :-1])).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(doubled / (2 * synthetic[:, -1] * real[:, -1]))


def average_precision(counts: Counts) -> Floats:
    """Sum of precision × gain in recall over thresholds, without interpolation; shape R."""
    synthetic, real = counts.synthetic_RT, counts.real_RT
    called = synthetic[:, 1:] + real[:, 1:]
    precision = np.divide(synthetic[:, 1:], called, out=np.zeros_like(called), where=called > 0)
    gained = (np.diff(synthetic, axis=1) * precision).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.asarray(gained / synthetic[:, -1])
    return np.where(real[:, -1] > 0, ratio, np.nan)


def tpr_at_fpr(counts: Counts, fpr: float) -> Floats:
    """Highest TPR that a threshold reaches with a FPR of at most `fpr`, not interpolated; R."""
    fpr_RT, tpr_RT = _rates(counts)
    last = np.maximum((fpr_RT <= fpr).sum(axis=1) - 1, 0)
    tpr = np.take_along_axis(tpr_RT, last[:, None], axis=1)[:, 0]
    return np.where(np.isnan(fpr_RT[:, -1]), np.nan, tpr)


def equal_error_rate(counts: Counts) -> Floats:
    """Rate at which FPR = 1 - TPR on the ROC curve, straight between its points; shape R."""
    fpr_RT, tpr_RT = _rates(counts)
    gap_RT = fpr_RT - (1 - tpr_RT)
    after = np.maximum(np.argmax(gap_RT >= 0, axis=1), 1)[:, None]

    def at(values: Floats, index: Ints) -> Floats:
        return np.take_along_axis(values, index, axis=1)[:, 0]

    below, above = -at(gap_RT, after - 1), at(gap_RT, after)
    with np.errstate(invalid="ignore", divide="ignore"):
        part = below / (below + above)
    start = at(fpr_RT, after - 1)
    return start + part * (at(fpr_RT, after) - start)


def roc_auc(labels_N: ArrayLike, scores_N: ArrayLike) -> Measure:
    """Area under the ROC curve alone, for the many pairs of a cross-source or K-class table."""
    labels, scores = np.asarray(labels_N).astype(np.int64), np.asarray(scores_N, dtype=np.float64)
    num_synthetic = int(labels.sum())
    reason = class_reason(len(labels) - num_synthetic, num_synthetic)
    if reason:
        return Measure(None, reason=reason)
    order = np.argsort(-scores)
    ends = threshold_ends(scores[order])
    return Measure(float(auc(count_above(labels[order], ends, np.ones((1, len(labels)))))[0]))


def roc_curve(scored: Scored) -> Curve | None:
    """FPR against TPR at every distinct score; None when a class is missing."""
    if not scored.num_real or not scored.num_synthetic:
        return None
    counts, thresholds = _counts(scored)
    fpr_RT, tpr_RT = _rates(counts)
    return Curve(fpr_RT[0], tpr_RT[0], thresholds)


def pr_curve(scored: Scored) -> Curve | None:
    """Recall against precision at every distinct score; None when a class is missing.

    The first point, where nothing is called synthetic, has precision 1 by convention.
    """
    if not scored.num_real or not scored.num_synthetic:
        return None
    counts, thresholds = _counts(scored)
    synthetic, real = counts.synthetic_RT[0], counts.real_RT[0]
    precision = np.ones_like(synthetic)
    precision[1:] = synthetic[1:] / (synthetic[1:] + real[1:])
    return Curve(synthetic / synthetic[-1], precision, thresholds)


def _counts(scored: Scored) -> tuple[Counts, Floats]:
    ends = threshold_ends(scored.scores_N)
    counts = count_above(scored.labels_N, ends, np.ones((1, len(scored.labels_N))))
    return counts, np.append(np.inf, scored.scores_N[ends])
