"""Figures over slices, sources and runs: macro mean, minimum, cross-source AUC, seed spread."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rayapp.metrics.measure import Measure
from rayapp.metrics.ranking import roc_auc


@dataclass(frozen=True)
class Macro:
    """Unweighted mean and the worst value over slices, with the slices that had no value."""

    mean: Measure
    worst: Measure
    worst_slice: str
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Spread:
    """Mean, sample standard deviation (N - 1; None for one run) and range over runs."""

    num_runs: int
    mean: float
    std: float | None
    minimum: float
    maximum: float


def macro(slices: Mapping[str, Measure], *, lower_is_better: bool = False) -> Macro:
    """Mean and worst (the minimum, or the maximum where lower is better) of one figure.

    Slices without a value are left out of both and named. Ties go to the first name.
    """
    values = {name: m.value for name, m in slices.items() if m.value is not None}
    left_out = tuple(name for name in slices if name not in values)
    if not values:
        empty = Measure(None, reason="no slice has a value")
        return Macro(empty, empty, "", left_out)
    sign = -1 if lower_is_better else 1
    worst_slice = min(values, key=lambda name: (sign * values[name], name))
    mean = Measure(float(np.mean(list(values.values()))))
    return Macro(mean, slices[worst_slice], worst_slice, left_out)


def cross_source_auc(
    labels_N: ArrayLike, scores_N: ArrayLike, sources_N: ArrayLike
) -> dict[tuple[str, str], Measure]:
    """ROC AUC of each source of reals against each source of synthetics.

    Keys are (source of reals, source of synthetics). The pooled AUC hides a shift of scores
    between sources that these pairs show.
    """
    labels, scores = np.asarray(labels_N), np.asarray(scores_N, dtype=np.float64)
    sources = np.asarray(sources_N).astype(np.str_)
    result = {}
    for real in np.unique(sources[labels == 0]):
        for synthetic in np.unique(sources[labels == 1]):
            chosen = ((labels == 0) & (sources == real)) | ((labels == 1) & (sources == synthetic))
            result[str(real), str(synthetic)] = roc_auc(labels[chosen], scores[chosen])
    return result


def spread(values: Sequence[float]) -> Spread:
    """How much one figure varies over runs that differ in their seed.

    Raises:
        ValueError: no run is given.
    """
    if not values:
        raise ValueError("no runs")
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(len(values), float(np.mean(values)), std, min(values), max(values))
