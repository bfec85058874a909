"""Is the best better than the recipe it started from? A difference with its interval, in a line.

Shapes: S seeds · N images of a fold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import stats

from rayapp.config.defaults import NUM_RESAMPLES
from rayapp.config.settings import Settings
from rayapp.metrics.bootstrap import group_strata, resampled_groups
from rayapp.metrics.ranking import auc, count_above, threshold_ends
from rayapp.transforms.draws import generator

COMPARISON_FILE = "comparison.json"
Floats = NDArray[np.float64]


class Verdict(Settings):
    """Best minus recipe, of one figure."""

    best: int = Field(description="number of the trial that was compared")
    recipe: str = Field("recipe", description="what the recipe is called")
    figure: str = Field(description="title of the figure")
    higher_is_better: bool = Field(True, description="whether more is better")
    best_values: tuple[float, ...] = Field(description="the figure of the best, by seed")
    recipe_values: tuple[float, ...] = Field(description="of the recipe, by seed")
    difference: float = Field(description="mean of best minus recipe")
    low: float | None = Field(description="lower end of the 95 % interval; none: no interval")
    high: float | None = Field(description="upper end")
    resampled: str = Field(description="what the interval is over")
    slices: dict[str, dict[str, float]] = Field(
        {}, description="ROC AUC by slice of recipe and best, mean over seeds"
    )

    @property
    def real(self) -> bool:
        """Whether the interval leaves out no difference."""
        return self.low is not None and self.high is not None and self.low * self.high > 0

    @property
    def line(self) -> str:
        """The result in one line."""
        text = f"{self.figure}: best {np.mean(self.best_values):.4f}, the {self.recipe} "
        text += f"{np.mean(self.recipe_values):.4f}, difference {self.difference:+.4f}"
        if self.low is None or self.high is None:
            return f"{text}; no interval ({self.resampled}): not shown to be real"
        text += f" (95 % interval {self.low:+.4f} to {self.high:+.4f}, {self.resampled})"
        if not self.real:
            return f"{text}: the difference is not shown to be real"
        better = (self.difference > 0) == self.higher_is_better
        return f"{text}: the difference is real, the best is {'better' if better else 'WORSE'}"


@dataclass(frozen=True)
class Pair:
    """Logits of a fold's reals and held-out images by both recipes, one row a seed."""

    labels_N: NDArray[np.int64]
    groups_N: NDArray[np.str_]
    best_SN: Floats
    recipe_SN: Floats


def verdict_over_seeds(
    best: int,
    figure: str,
    folds: Sequence[Pair],
    seed: int,
    slices: Mapping[str, Mapping[str, float]],
) -> Verdict:
    """The difference of ROC AUC, mean over folds and seeds.

    Two things vary: training (the spread of the paired difference over seeds) and the images (its
    bootstrap over photographs, within each fold). Their variances add; the interval takes
    Student's t with the degrees of freedom of Welch and Satterthwaite.
    """
    of_best = np.mean([_aucs(f.labels_N, f.best_SN) for f in folds], axis=0)
    of_recipe = np.mean([_aucs(f.labels_N, f.recipe_SN) for f in folds], axis=0)
    differences = of_best - of_recipe
    num_seeds = len(differences)
    num_groups = sum(len(np.unique(fold.groups_N)) for fold in folds)
    trained = float(differences.var(ddof=1)) / num_seeds
    imaged = sum(_bootstrap_variance(fold, seed) for fold in folds) / len(folds) ** 2
    low, high = None, None
    resampled = f"{num_seeds} seeds and {num_groups} photographs"
    if trained + imaged > 0 and num_groups > 1:
        freedom = (trained + imaged) ** 2 / (
            trained**2 / (num_seeds - 1) + imaged**2 / (num_groups - 1)
        )
        half = float(stats.t.ppf(0.975, freedom)) * (trained + imaged) ** 0.5
        mean = float(differences.mean())
        low, high = max(-1.0, mean - half), min(1.0, mean + half)
    return Verdict(
        best=best,
        figure=figure,
        best_values=tuple(map(float, of_best)),
        recipe_values=tuple(map(float, of_recipe)),
        difference=float(differences.mean()),
        low=low,
        high=high,
        resampled=resampled,
        slices={name: dict(one) for name, one in slices.items()},
    )


def _aucs(labels_N: NDArray[np.int64], scores_SN: Floats) -> Floats:
    return np.array([_weighted_auc(labels_N, s, np.ones((1, len(s))))[0] for s in scores_SN])


def _weighted_auc(labels_N: NDArray[np.int64], scores_N: Floats, weights_RN: Floats) -> Floats:
    order = np.argsort(-scores_N, kind="stable")
    ends = threshold_ends(scores_N[order])
    return auc(count_above(labels_N[order], ends, weights_RN[:, order]))


def _bootstrap_variance(fold: Pair, seed: int) -> float:
    """Of the difference, mean over seeds, when the photographs of the fold are drawn anew."""
    names, codes = np.unique(fold.groups_N, return_inverse=True)
    strata = group_strata(codes, len(names), fold.labels_N)
    draws = generator(seed, "bootstrap", "comparison")
    found = []
    for weights_RG in resampled_groups(strata, len(names), len(codes), draws, NUM_RESAMPLES):
        weights_RN = weights_RG[:, codes]
        pairs = zip(fold.best_SN, fold.recipe_SN, strict=True)
        found.append(
            np.mean(
                [
                    _weighted_auc(fold.labels_N, a, weights_RN)
                    - _weighted_auc(fold.labels_N, b, weights_RN)
                    for a, b in pairs
                ],
                axis=0,
            )
        )
    return float(np.nanvar(np.concatenate(found), ddof=1))
