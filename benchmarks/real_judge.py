"""Figures of real against synthetic images, each pair scored by a model that saw neither.

In cross-validation every fold has a model of its own, and their scores have no common scale. So
nothing is pooled: a pair of one synthetic and one real image is compared by the model that was
trained on neither, and a figure is the mean over pairs. Of one model for all pairs that is the
usual ROC AUC and balanced accuracy.

Shapes: S synthetic images · R real images · B resamples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayapp.metrics.bootstrap import LEVELS
from rayapp.metrics.measure import Measure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Pairs:
    """What a judged set's pairs say.

    `higher_SR`: 1 where the synthetic image scores higher, ½ where they tie. `right_SR`: the share
    of the pair that is called right at the calibrated threshold. NaN where no model judges a pair.
    """

    higher_SR: Floats
    right_SR: Floats

    @classmethod
    def empty(cls, num_synthetic: int, num_real: int) -> "Pairs":
        """No pair judged yet."""
        none = np.full((num_synthetic, num_real), np.nan)
        return cls(none, none.copy())

    @classmethod
    def mean(cls, several: list["Pairs"]) -> "Pairs":
        """The mean of several judgements, pair by pair, over those that judge it."""
        return cls(
            _mean([one.higher_SR for one in several]), _mean([one.right_SR for one in several])
        )

    def judge(self, at_S: Ints, at_R: Ints, synthetic: Floats, real: Floats, over: float) -> None:
        """Fill in the pairs of one model: scores of these images, and from what on is synthetic."""
        block = np.ix_(at_S, at_R)
        self.higher_SR[block] = (synthetic[:, None] > real[None]) + 0.5 * (
            synthetic[:, None] == real[None]
        )
        called_right = 1.0 * (synthetic >= over)[:, None] + (real < over)[None]
        self.right_SR[block] = called_right / 2

    def only(self, synthetic_S: Mask, real_R: Mask) -> "Pairs":
        """The pairs of some images."""
        block = np.ix_(synthetic_S, real_R)
        return Pairs(self.higher_SR[block], self.right_SR[block])


def _mean(several: list[Floats]) -> Floats:
    counts_SR = np.sum([~np.isnan(one) for one in several], axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(several, axis=0) / counts_SR)


Weights = Callable[[np.random.Generator, int], Floats]


def resampler(groups_N: NDArray[np.str_]) -> Weights | None:
    """How often each image is drawn where its groups are resampled; None of fewer than two."""
    names, codes = np.unique(groups_N, return_inverse=True)
    if len(names) < 2:
        return None

    def weights_BN(rng: np.random.Generator, num: int) -> Floats:
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=num)
        return drawn[:, codes].astype(np.float64)

    return weights_BN


def mean_of(values_SR: Floats, shares_R: Floats | None = None) -> float | None:
    """The mean over pairs that were judged, each real image weighing its share; None of none."""
    judged_SR = ~np.isnan(values_SR)
    if not judged_SR.any():
        return None
    shares_R = np.ones(values_SR.shape[1]) if shares_R is None else shares_R
    return float((np.nan_to_num(values_SR) @ shares_R).sum() / (judged_SR @ shares_R).sum())


def measure(
    values_SR: Floats,
    groups_S: NDArray[np.str_],
    groups_R: NDArray[np.str_],
    shares_R: Floats | None = None,
    num_resamples: int = NUM_RESAMPLES,
) -> Measure:
    """The mean over pairs, with a 95 % interval over groups of either class resampled.

    Args:
        values_SR: what is averaged; NaN where a pair was not judged.
        groups_S: of the synthetic images.
        groups_R: of the real images.
        shares_R: how much each real image weighs, all equal if none.
        num_resamples: how many.
    """
    value = mean_of(values_SR, shares_R)
    if value is None:
        return Measure(None, reason="no pair was judged")
    shares_R = np.ones(values_SR.shape[1]) if shares_R is None else shares_R
    judged_SR, filled_SR = ~np.isnan(values_SR), np.nan_to_num(values_SR)
    draw_S, draw_R = resampler(groups_S), resampler(groups_R)
    if draw_S is None or draw_R is None:
        return Measure(value, reason="no interval: one group only of a kind")
    rng = np.random.default_rng(0)
    weights_BS, weights_BR = draw_S(rng, num_resamples), draw_R(rng, num_resamples) * shares_R
    sums_B, counts_B = (
        np.einsum("bs,bs->b", weights_BS, weights_BR @ matrix_SR.T)
        for matrix_SR in (filled_SR, judged_SR.astype(np.float64))
    )
    resampled = (sums_B / np.where(counts_B > 0, counts_B, np.nan))[counts_B > 0]
    if resampled.min() == resampled.max():
        return Measure(value, reason="no interval: all resamples agree")
    low, high = np.quantile(resampled, LEVELS)
    return Measure(value, float(low), float(high))
