"""What a calibration refuses of its items, and what it warns of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike

from rayapp.config.errors import UserError
from rayapp.models.calibration.fits import probabilities, separated

if TYPE_CHECKING:
    from rayapp.models.calibration.fits import Floats, Parameters
    from rayapp.models.detector_spec import Method

_CHANCE = 0.025
_SHIFT = 0.1
_SMALL_CLASS = 100
_WIDE_SLOPE = 0.25


@dataclass(frozen=True)
class Direction:
    """Whether synthetics score above reals: ROC AUC, and what more than chance says of it.

    One-sided Mann–Whitney tests at 2.5 %, as if the items were independent.
    """

    area: float
    against: bool
    along: bool

    @classmethod
    def of(cls, scores_N: ArrayLike, labels_N: ArrayLike) -> Self:
        """The direction of scores of both classes."""
        scores, labels = np.asarray(scores_N, dtype=np.float64), np.asarray(labels_N)
        real, synthetic = scores[labels == 0], scores[labels == 1]
        from scipy import stats  # takes half a second to import

        less = stats.mannwhitneyu(synthetic, real, alternative="less")
        greater = stats.mannwhitneyu(synthetic, real, alternative="greater")
        area = float(less.statistic) / (len(real) * len(synthetic))
        return cls(area, bool(less.pvalue < _CHANCE), bool(greater.pvalue < _CHANCE))

    def describe(self) -> str:
        """Scores that run against the labels, in words."""
        return f"the scores run against the labels (ROC AUC {self.area:.2f})"


def checked(logits_N: ArrayLike, labels_N: ArrayLike) -> tuple[Floats, Floats]:
    """The items as arrays.

    Raises:
        UserError: there is nothing to fit to.
    """
    z = np.asarray(logits_N, dtype=np.float64).ravel()
    labels = np.asarray(labels_N, dtype=np.float64).ravel()
    if len(z) != len(labels):
        raise UserError(f"calibration has {len(z)} logits but {len(labels)} labels")
    if not np.isfinite(z).all():
        bad = int((~np.isfinite(z)).sum())
        raise UserError(f"{bad} of {len(z)} calibration logits are not finite: leave them out")
    if not np.isin(labels, (0, 1)).all():
        raise UserError("calibration labels must be 0 (real) or 1 (synthetic)")
    num_synthetic = int(labels.sum())
    require_both(len(labels) - num_synthetic, num_synthetic)
    if np.ptp(z) == 0:
        raise UserError(
            f"nothing can be fitted: all {len(z)} calibration logits are equal ({z[0]:g})"
        )
    return z, labels


def require_both(num_real: int, num_synthetic: int) -> None:
    """Nothing where both classes are there; else UserError."""
    if not num_real or not num_synthetic:
        raise UserError(
            f"calibration needs both classes: {num_real} real, {num_synthetic} synthetic items"
        )


def warnings(
    method: Method,
    parameters: Parameters,
    z: Floats,
    labels: Floats,
    interval: tuple[float, float] | None,
) -> list[str]:
    """What limits a fit; `interval` is that of the slope."""
    direction, slope = Direction.of(z, labels), parameters.get("slope")
    falling = isinstance(slope, float) and slope <= 0
    found = []
    if falling or direction.against:
        prefix = f"slope {slope:.3g} is not positive: " if falling else ""
        found.append(prefix + direction.describe())
    elif not direction.along:
        found.append(f"a ROC AUC of {direction.area:.2f} on {len(z)} items may be chance")
    if method == "isotonic" and separated(z, labels):
        found.append("the classes are separated, and isotonic gives 0 or 1 alone: take platt")
    mean, share = float(probabilities(method, parameters, z).mean()), float(labels.mean())
    by_chance = 2 * np.sqrt(share * (1 - share) / len(z))
    if method == "temperature" and abs(mean - share) > max(_SHIFT, by_chance):
        found.append(
            f"probabilities average {mean:.2f} where {share:.2f} of the items are synthetic, and a "
            "temperature cannot shift them: take platt"
        )
    return [*found, *_small(labels, interval)]


def _small(labels: Floats, interval: tuple[float, float] | None) -> list[str]:
    if interval is None:
        return []
    num_synthetic = int(labels.sum())
    num_real = len(labels) - num_synthetic
    low, high = interval
    wide = (high - low) / 2 > _WIDE_SLOPE * abs(high + low) / 2
    if min(num_real, num_synthetic) >= _SMALL_CLASS and not wide:
        return []
    return [
        f"small calibration set ({num_real} real, {num_synthetic} synthetic items): "
        f"slope of the logit known to {low:.2f} … {high:.2f} (95 %)"
    ]
