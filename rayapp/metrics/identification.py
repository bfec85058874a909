"""Which generator made it? Accuracy, confusion and AUC over K classes."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from rayapp.config.defaults import NUM_RESAMPLES
from rayapp.metrics.bootstrap import LEVELS, resampled_groups
from rayapp.metrics.measure import Floats, Ints, Measure
from rayapp.metrics.ranking import auc, count_above, roc_auc, threshold_ends


@dataclass(frozen=True)
class Identification:
    """Figures over K classes; rows of the confusion are true classes, columns predicted ones.

    `macro_auc` is the unweighted mean of one class against the rest and has no value where a
    class has no item; `balanced_accuracy` is the mean recall of the classes that have items.
    """

    num_items: int
    accuracy: Measure
    balanced_accuracy: Measure
    macro_auc: Measure
    recalls: tuple[Measure, ...]
    aucs: tuple[Measure, ...]
    confusion_KK: Ints


def confusion(classes_N: ArrayLike, predicted_N: ArrayLike, num_classes: int) -> Ints:
    """Number of items of each true class (row) that were called each class (column)."""
    flat = np.asarray(classes_N) * num_classes + np.asarray(predicted_N)
    counts = np.bincount(flat.astype(np.int64), minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def identify(classes_N: ArrayLike, probabilities_NK: ArrayLike) -> Identification:
    """Figures of identification; the highest probability wins, the first class on a tie.

    Raises:
        ValueError: a class is outside 0..K-1 or the numbers of rows differ.
    """
    classes = np.asarray(classes_N).astype(np.int64)
    probabilities = np.asarray(probabilities_NK, dtype=np.float64)
    num_items, num_classes = probabilities.shape
    if len(classes) != num_items or not ((classes >= 0) & (classes < num_classes)).all():
        raise ValueError(f"{len(classes)} classes must fit {num_items} rows of {num_classes}")
    counts = confusion(classes, probabilities.argmax(axis=1), num_classes)
    recalls = tuple(_recall(counts, k) for k in range(num_classes))
    aucs = tuple(roc_auc(classes == k, probabilities[:, k]) for k in range(num_classes))
    present = [recall.value for recall in recalls if recall.value is not None]
    empty = Measure(None, reason="no items")
    return Identification(
        num_items,
        Measure(float(np.trace(counts) / num_items)) if num_items else empty,
        Measure(float(np.mean(present))) if present else empty,
        _mean_or_reason(aucs),
        recalls,
        aucs,
        counts,
    )


def identify_with_intervals(
    classes_N: ArrayLike,
    probabilities_NK: ArrayLike,
    rng: np.random.Generator,
    groups_N: ArrayLike | None = None,
    num_resamples: int = NUM_RESAMPLES,
) -> Identification:
    """`identify` with 95 % percentile intervals over groups, resampled within each class."""
    plain = identify(classes_N, probabilities_NK)
    classes = np.asarray(classes_N).astype(np.int64)
    probabilities = np.asarray(probabilities_NK, dtype=np.float64)
    names = np.arange(len(classes)) if groups_N is None else np.asarray(groups_N)
    _, first, codes = np.unique(names, return_index=True, return_inverse=True)
    strata = [np.flatnonzero(classes[first] == k) for k in range(probabilities.shape[1])]
    strata = [groups for groups in strata if len(groups)]
    if not strata or min(map(len, strata)) < 2:
        return plain
    orders = [np.argsort(-column, kind="stable") for column in probabilities.T]
    ends = [threshold_ends(column[o]) for column, o in zip(probabilities.T, orders, strict=True)]
    right = probabilities.argmax(axis=1) == classes
    recalls, aucs, accuracies = [], [], []
    for weights_RG in resampled_groups(strata, len(first), len(classes), rng, num_resamples):
        weights = weights_RG[:, codes]
        accuracies.append((weights * right).sum(axis=1) / weights.sum(axis=1))
        recalls.append(_weighted_recalls(weights, classes, right, len(orders)))
        aucs.append(
            [
                auc(count_above((classes == k)[o].astype(np.int64), e, weights[:, o]))
                for k, (o, e) in enumerate(zip(orders, ends, strict=True))
            ]
        )
    recall_KR, auc_KR = np.concatenate(recalls, axis=1), np.concatenate(aucs, axis=1)
    present = [k for k, recall in enumerate(plain.recalls) if recall.value is not None]
    return replace(
        plain,
        accuracy=_between(plain.accuracy, np.concatenate(accuracies)),
        balanced_accuracy=_between(plain.balanced_accuracy, recall_KR[present].mean(axis=0)),
        macro_auc=_between(plain.macro_auc, auc_KR.mean(axis=0)),
        recalls=tuple(map(_between, plain.recalls, recall_KR)),
        aucs=tuple(map(_between, plain.aucs, auc_KR)),
    )


def _weighted_recalls(weights_RN: Floats, classes_N: Ints, right_N: Floats, num: int) -> Floats:
    """Recall of each class under each row of weights; shape [K, R]."""
    with np.errstate(invalid="ignore"):
        return np.array(
            [
                (weights_RN * (right_N & (classes_N == k))).sum(axis=1)
                / weights_RN[:, classes_N == k].sum(axis=1)
                for k in range(num)
            ]
        )


def _between(measure: Measure, resampled_R: Floats) -> Measure:
    """The measure with the interval of its resamples, where it has a value and they vary."""
    if measure.value is None or np.isnan(resampled_R).any() or np.ptp(resampled_R) == 0:
        return measure
    low, high = np.quantile(resampled_R, LEVELS)
    return replace(measure, low=float(low), high=float(high))


def _recall(counts_KK: Ints, k: int) -> Measure:
    total = counts_KK[k].sum()
    return Measure(float(counts_KK[k, k] / total)) if total else Measure(None, reason="no items")


def _mean_or_reason(measures: tuple[Measure, ...]) -> Measure:
    missing = [str(k) for k, measure in enumerate(measures) if measure.value is None]
    if missing:
        return Measure(None, reason=f"no AUC for class {', '.join(missing)}")
    return Measure(float(np.mean([m.value for m in measures if m.value is not None])))
