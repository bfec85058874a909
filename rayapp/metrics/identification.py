"""Which generator made it? Accuracy, confusion and AUC over K classes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rayapp.metrics.measure import Ints, Measure
from rayapp.metrics.ranking import roc_auc


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


def _recall(counts_KK: Ints, k: int) -> Measure:
    total = counts_KK[k].sum()
    return Measure(float(counts_KK[k, k] / total)) if total else Measure(None, reason="no items")


def _mean_or_reason(measures: tuple[Measure, ...]) -> Measure:
    missing = [str(k) for k, measure in enumerate(measures) if measure.value is None]
    if missing:
        return Measure(None, reason=f"no AUC for class {', '.join(missing)}")
    return Measure(float(np.mean([m.value for m in measures if m.value is not None])))
