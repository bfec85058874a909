"""Decisions from calibrated probabilities, chosen on calibration data only: threshold and band.

A rate of false positives is promised with a confidence: the threshold is an order statistic of the
calibration reals, chosen by an exact binomial bound (Tong, Feng and Li, Science Advances 2018,
proposition 1). It assumes independent reals like those that are judged later, and a map that does
not fall in the logit; that the same reals were used to fit the map does no harm, since it moves no
real past another.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import special

from rayapp.config.defaults import EVEN_ODDS
from rayapp.config.errors import UserError

MIN_PER_CLASS_FOR_BAND = 50
ALL = "all"  # the one slice where no column cuts the reals
_MOST_NAMED = 5
Floats = NDArray[np.float64]


class Rate(BaseModel):
    """The reals of one slice, and how many of them a threshold calls synthetic."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slice: str = Field(description="name of the slice; `all` where nothing cuts the reals")
    num_real: int = Field(ge=0, description="independent real images")
    num_flagged: int = Field(ge=0, description="of them: at or above the threshold")
    bound: float | None = Field(None, description="upper end, one-sided, at the confidence")

    @property
    def observed(self) -> float:
        """Share that is called synthetic."""
        return self.num_flagged / self.num_real if self.num_real else 0.0


class OperatingPoint(BaseModel):
    """What was asked of a threshold and what it does on the calibration images.

    With `fpr`, the true rates of all slices are at most that with this confidence, jointly; each
    `bound` holds for its slice by itself. Without, the threshold was not chosen for a rate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fpr: float | None = Field(None, description="false-positive rate that was asked for")
    confidence: float = Field(0.95, gt=0, lt=1, description="with which it holds")
    by: str = Field("", description="column in whose every slice it holds")
    unit: Literal["images", "photographs"] = Field("images", description="what is counted of reals")
    rates: tuple[Rate, ...] = Field(min_length=1, description="false positives by slice")
    num_synthetic: int = Field(ge=1, description="synthetic calibration images")
    num_found: int = Field(ge=0, description="of them: at or above the threshold")

    @property
    def recall(self) -> float:
        """Share of the synthetic calibration images that is called synthetic."""
        return self.num_found / self.num_synthetic

    def precision(self, share_synthetic: float) -> tuple[float | None, float | None]:
        """Share of synthetic among what is called synthetic, where so many images are synthetic.

        By the observed rates, and with both at their bounds (the worst slice's, and the lower end
        of the recall); None where nothing is called synthetic, or no rate was promised.
        """
        whole = Rate(
            slice=ALL,
            num_real=sum(rate.num_real for rate in self.rates),
            num_flagged=sum(rate.num_flagged for rate in self.rates),
        )
        observed = precision(share_synthetic, self.recall, whole.observed)
        bounds = [rate.bound for rate in self.rates if rate.bound is not None]
        if self.fpr is None or not bounds:
            return observed, None
        least = lower_bound(self.num_found, self.num_synthetic, self.confidence)
        return observed, precision(share_synthetic, least, max(bounds))

    def describe(self) -> list[str]:
        """In words: asked, bound and observed, a line a slice; then the recall."""
        lines = []
        if self.fpr is not None:
            where = f" in every {self.by}" if self.by else ""
            lines.append(
                f"false positives: asked at most {percent(self.fpr)}{where}, with "
                f"{percent(self.confidence)} confidence"
            )
        for rate in self.rates:
            bound = "" if rate.bound is None else f"bound {percent(rate.bound)}, "
            name = "false positives" if self.fpr is None else f"  {rate.slice}"
            counted = f"({rate.num_flagged:,} of {rate.num_real:,} real {self.unit})"
            lines.append(f"{name}: {bound}observed {percent(rate.observed)} {counted}")
        found = f"({self.num_found:,} of {self.num_synthetic:,} synthetic images)"
        return [*lines, f"recall at the threshold: {percent(self.recall)} {found}"]


def percent(share: float) -> str:
    """A share as a percentage with three significant digits: `0.987 %`."""
    return f"{100 * share:.3g} %"


def precision(share_synthetic: float, recall: float, fpr: float) -> float | None:
    """Share of synthetic among what is called synthetic; None where nothing is."""
    found, wrong = share_synthetic * recall, (1 - share_synthetic) * fpr
    return found / (found + wrong) if found + wrong > 0 else None


def upper_bound(num_events: int, num: int, confidence: float) -> float:
    """Upper end of the one-sided Clopper–Pearson interval of a rate."""
    if num_events >= num:
        return 1.0
    return float(special.betaincinv(num_events + 1, num - num_events, confidence))


def lower_bound(num_events: int, num: int, confidence: float) -> float:
    """Lower end of the one-sided Clopper–Pearson interval of a rate."""
    return 1 - upper_bound(num - num_events, num, confidence)


def reals_needed(fpr: float, confidence: float = 0.95) -> int:
    """The fewest reals on which a false-positive rate can be promised: none may be flagged."""
    return int(np.ceil(np.log1p(-confidence) / np.log1p(-fpr) - 1e-9))


def check_reals(
    num_by_slice: Mapping[str, int], fpr: float, confidence: float = 0.95, by: str = ""
) -> None:
    """Nothing where every slice has the reals that the promise needs.

    Raises:
        UserError: how many are needed and missing, and which rate could be promised instead.
    """
    needed = reals_needed(fpr, confidence)
    short = {name: num for name, num in num_by_slice.items() if num < needed}
    if not short:
        return
    text = f"a false-positive rate of {percent(fpr)} with {percent(confidence)} confidence needs "
    least = min(short.values())
    reachable = 1 - (1 - confidence) ** (1 / least) if least else 1.0
    if by:
        named = [
            f"{name} {needed - num:,} (has {num:,})"
            for name, num in sorted(short.items(), key=lambda pair: (pair[1], pair[0]))
        ]
        more = len(named) - _MOST_NAMED
        text += f"at least {needed:,} independent real calibration images of each {by}; missing: "
        text += ", ".join(named[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
    else:
        text += f"at least {needed:,} independent real calibration images, got {least:,}: "
        text += f"{needed - least:,} are missing"
    instead = np.ceil(reachable * 1e4) / 1e4
    raise UserError(text + (f"; these can promise {percent(instead)}" if instead < 1 else ""))


def reals_by_slice(
    probabilities_N: ArrayLike,
    labels_N: ArrayLike,
    slices_N: ArrayLike | None = None,
    photographs_N: ArrayLike | None = None,
) -> dict[str, Floats]:
    """Probabilities of the independent reals of each slice, highest first.

    Of several images of one photograph the highest counts, and the others do not.
    """
    real = np.asarray(labels_N) == 0
    values = np.asarray(probabilities_N, dtype=np.float64)[real]
    slices = np.full(len(values), ALL) if slices_N is None else np.asarray(slices_N)[real]
    order = np.argsort(-values, kind="stable")
    values, slices = values[order], slices[order]
    if photographs_N is not None:
        photographs = np.asarray(photographs_N)[real][order]
        keys = np.char.add(np.char.add(slices.astype(np.str_), "\0"), photographs.astype(np.str_))
        first = np.sort(np.unique(keys, return_index=True)[1])
        values, slices = values[first], slices[first]
    return {str(name): values[slices == name] for name in np.unique(slices)}


def threshold_at_fpr(
    probabilities_N: ArrayLike,
    labels_N: ArrayLike,
    fpr: float,
    confidence: float = 0.95,
    *,
    slices_N: ArrayLike | None = None,
    photographs_N: ArrayLike | None = None,
    by: str = "",
) -> float:
    """Smallest threshold whose true false-positive rate is at most `fpr`, with this confidence.

    It lies just above the real of the lowest rank that the binomial bound allows, so ties are let
    through. With slices it is the highest of theirs, and holds the rate in all of them jointly at
    the same confidence: it fails only where it is too low for the worst slice, and then that
    slice's own threshold is.

    Args:
        probabilities_N: of calibration images.
        labels_N: 1 synthetic, 0 real.
        fpr: rate that is asked for, in (0, 1).
        confidence: with which it holds, in (0, 1), over draws of the calibration reals.
        slices_N: name of each image's slice.
        photographs_N: name of the photograph behind each image.
        by: what the slices are cut by, for messages.

    Raises:
        UserError: too few reals, see `check_reals`.
    """
    reals = reals_by_slice(probabilities_N, labels_N, slices_N, photographs_N)
    num_by_slice = {name: len(values) for name, values in reals.items()} or {ALL: 0}
    check_reals(num_by_slice, fpr, confidence, by)
    highest = max(values[_allowed(len(values), fpr, confidence)] for values in reals.values())
    return float(np.nextafter(highest, np.inf))


def _allowed(num: int, fpr: float, confidence: float) -> int:
    """How many of so many reals may be flagged: the most whose upper bound is at most `fpr`."""
    allowed = int(np.ceil(special.bdtrik(1 - confidence, num, fpr)))
    while allowed > 0 and special.bdtr(allowed, num, fpr) > 1 - confidence:
        allowed -= 1
    return allowed


def rates_at(
    threshold: float, reals: Mapping[str, Floats], confidence: float | None
) -> tuple[Rate, ...]:
    """The false positives of each slice at a threshold; without a confidence, without bound."""
    found = []
    for name, values in reals.items():
        num, flagged = len(values), int((values >= threshold).sum())
        bound = None if confidence is None else upper_bound(flagged, num, confidence)
        found.append(Rate(slice=name, num_real=num, num_flagged=flagged, bound=bound))
    return tuple(found)


def abstain_band(
    probabilities_N: ArrayLike,
    labels_N: ArrayLike,
    threshold: float = EVEN_ODDS,
    error: float = 0.05,
    prevalence: float | None = None,
    weights_N: ArrayLike | None = None,
) -> tuple[float, float] | None:
    """Band low <= p < high to leave undecided, so that either answer is rarely wrong.

    `low` is the largest probability up to the threshold such that among the calibration items
    with p < low at most a share `error` is synthetic; `high` the smallest from the threshold on
    such that among those with p >= high at most `error` is real. A side that never gets there is
    undecided to its end (0, or just above the highest p). None below 50 items of either class.
    With `prevalence`, the items are weighted so that this share of them is synthetic; `weights_N`
    says how much each counts besides. Since `high`
    is never below the threshold, the band leaves no real called synthetic that the threshold
    alone would not.
    """
    values, labels = np.asarray(probabilities_N, dtype=np.float64), np.asarray(labels_N)
    num_synthetic = int((labels == 1).sum())
    num_real = len(labels) - num_synthetic
    if min(num_synthetic, num_real) < MIN_PER_CLASS_FOR_BAND:
        return None
    weights = np.ones(len(labels)) if weights_N is None else np.asarray(weights_N, np.float64)
    if prevalence is not None:
        each = [
            share / weights[labels == label].sum()
            for label, share in ((0, 1 - prevalence), (1, prevalence))
        ]
        weights = weights * np.where(labels == 1, each[1], each[0])
    edges = np.unique(np.append(values, threshold))
    wrong_below = _shares(values, labels == 1, weights, edges)
    low = edges[(edges <= threshold) & (wrong_below <= error)].max(initial=0.0)
    wrong_above = _shares(-values, labels == 0, weights, -edges[::-1], side="right")[::-1]
    past_end = float(np.nextafter(max(edges[-1], threshold), np.inf))
    high = edges[(edges >= threshold) & (wrong_above <= error)].min(initial=past_end)
    return float(low), float(high)


def _shares(
    values_N: Floats,
    wrong_N: NDArray[np.bool_],
    weights_N: Floats,
    edges_T: Floats,
    side: Literal["left", "right"] = "left",
) -> Floats:
    """Share of wrong items among those below each edge (`right`: or at it); 0 where none is."""
    order = np.argsort(values_N, kind="stable")
    total = np.append(0, np.cumsum(weights_N[order]))
    wrong = np.append(0, np.cumsum((weights_N * wrong_N)[order]))
    number = np.searchsorted(values_N[order], edges_T, side=side)
    return np.asarray(wrong[number] / np.where(number > 0, total[number], 1.0))
