"""Is one detector better than another on the same items? Tests of paired figures."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from rayapp.metrics.measure import Difference, Floats, Ints, class_reason

_Z = 1.959963984540054


def compare_auc(
    labels_N: ArrayLike,
    scores_a_N: ArrayLike,
    scores_b_N: ArrayLike,
    groups_N: ArrayLike | None = None,
) -> Difference:
    """ROC AUC of A minus that of B with a 95 % interval and two-sided p, without resampling.

    DeLong, DeLong and Clarke-Pearson (Biometrics 1988) where each item is its own group; with
    groups, Obuchowski's extension to clustered data (Biometrics 1997), which is the same formula
    on sums over groups. Both take the number of groups to be large.
    """
    labels = np.asarray(labels_N).astype(np.int64)
    names = np.arange(len(labels)) if groups_N is None else np.asarray(groups_N)
    codes = np.unique(names, return_inverse=True)[1]
    num_groups = len(np.unique(names))
    method = "DeLong" if groups_N is None else "DeLong, groups (Obuchowski)"
    num_synthetic = int(labels.sum())
    reason = class_reason(len(labels) - num_synthetic, num_synthetic)
    if reason:
        return Difference(None, None, None, None, method, num_groups, reason)
    auc_a, parts_a = _placements(labels, np.asarray(scores_a_N, dtype=np.float64))
    auc_b, parts_b = _placements(labels, np.asarray(scores_b_N, dtype=np.float64))
    value = auc_a - auc_b
    variance = _variance(labels, codes, num_groups, parts_a - parts_b - value)
    return _difference(value, variance, method, num_groups)


def compare_balanced_accuracy(
    labels_N: ArrayLike,
    correct_a_N: ArrayLike,
    correct_b_N: ArrayLike,
    groups_N: ArrayLike | None = None,
) -> Difference:
    """Balanced accuracy of A minus that of B with a 95 % interval and two-sided p.

    A mean of two paired differences, one a class; with groups its variance is that of sums over
    groups. Takes the number of groups to be large.
    """
    labels = np.asarray(labels_N).astype(np.int64)
    names = np.arange(len(labels)) if groups_N is None else np.asarray(groups_N)
    codes = np.unique(names, return_inverse=True)[1]
    num_groups = len(np.unique(names))
    method = "paired" if groups_N is None else "paired, groups"
    num_synthetic = int(labels.sum())
    reason = class_reason(len(labels) - num_synthetic, num_synthetic)
    if reason:
        return Difference(None, None, None, None, method, num_groups, reason)
    parts = np.asarray(correct_a_N, dtype=np.float64) - np.asarray(correct_b_N, dtype=np.float64)
    means = [float(parts[labels == label].mean()) for label in (0, 1)]
    centred = parts - np.where(labels == 1, means[1], means[0])
    variance = _variance(labels, codes, num_groups, centred / 2)
    return _difference(sum(means) / 2, variance, method, num_groups)


def _difference(value: float, variance: float | None, method: str, num_groups: int) -> Difference:
    if variance is None:
        reason = "needs two groups of each class"
        return Difference(value, None, None, None, method, num_groups, reason)
    error = float(np.sqrt(variance))
    if error == 0:
        p_value, reason = (1.0, "") if value == 0 else (None, "the difference does not vary")
        return Difference(value, value, value, p_value, method, num_groups, reason)
    p_value = float(2 * special.ndtr(-abs(value) / error))
    low, high = value - _Z * error, value + _Z * error
    return Difference(value, low, high, p_value, method, num_groups)


def _placements(labels_N: Ints, scores_N: Floats) -> tuple[float, Floats]:
    """AUC, and for each item the share of the other class that it is ranked rightly against."""
    synthetic = labels_N == 1
    ranks = stats.rankdata(scores_N)
    within = np.empty_like(ranks)
    within[synthetic] = stats.rankdata(scores_N[synthetic])
    within[~synthetic] = stats.rankdata(scores_N[~synthetic])
    below = ranks - within
    num_synthetic, num_real = synthetic.sum(), (~synthetic).sum()
    parts = np.where(synthetic, below / num_real, 1 - below / num_synthetic)
    return float(parts[synthetic].mean()), parts


def _variance(labels_N: Ints, codes_N: Ints, num_groups: int, parts_N: Floats) -> float | None:
    """Variance of the mean difference from centred parts; None below two groups of a class."""
    synthetic = labels_N == 1
    sums, sizes, groups = [], [], []
    for mask in (synthetic, ~synthetic):
        sums.append(np.bincount(codes_N[mask], weights=parts_N[mask], minlength=num_groups))
        sizes.append(int(mask.sum()))
        groups.append(len(np.unique(codes_N[mask])))
    if min(groups) < 2:
        return None
    total = 0.0
    for part, size, number in zip(sums, sizes, groups, strict=True):
        total += number / (number - 1) * float(part @ part) / size**2
    both = num_groups / (num_groups - 1) * float(sums[0] @ sums[1]) / (sizes[0] * sizes[1])
    return max(0.0, total + 2 * both)
