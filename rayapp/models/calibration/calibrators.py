"""Calibrators: fit the map from a detector's logit to the probability that an image is synthetic.

Shape suffix: N items. The arithmetic is in calibrator_fits.
"""

import hashlib
import json
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import special

from rayapp.config.defaults import EVEN_ODDS
from rayapp.config.errors import UserError
from rayapp.models.calibration.decisions import OperatingPoint, percent
from rayapp.models.calibration.direction import Direction, checked, warnings
from rayapp.models.calibration.fits import (
    Floats,
    Parameters,
    fit_parameters,
    newton,
    probabilities,
    separated,
    smoothed_targets,
)
from rayapp.models.calibration.importance import Importance
from rayapp.models.detector_spec import Method

# Simplest first. auto considers a method only from this many items on: scikit-learn's guide
# advises against isotonic regression when there are far fewer than 1000 calibration samples.
AUTO_FROM: dict[Method, int] = {
    "bias": 0,
    "temperature": 0,
    "platt": 0,
    "beta": 200,
    "isotonic": 1000,
}
AUTO_FOLDS = 5
_LATER = ("share_synthetic", "prevalence", "operating_point")
_Z = 1.959963984540054


class Calibrator(BaseModel):
    """A fitted map from logit to probability.

    `slope_interval` is the 95 % interval of the slope of a Platt fit to the same items, whatever
    the method: it says how much n items tell about steepness. `warning` is empty or one line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method
    parameters: Parameters
    n: int
    slope_interval: tuple[float, float] | None = None
    warning: str = ""

    def apply(self, logits_N: ArrayLike) -> Floats:
        """Probability that each image is synthetic, float64, in [0, 1]."""
        return probabilities(self.method, self.parameters, logits_N)


class Observed(BaseModel):
    """How a calibration decides on its own images: of the reals and synthetics so many wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_real: int = Field(ge=0, description="real calibration images")
    num_synthetic: int = Field(ge=0, description="synthetic calibration images")
    false_synthetic: int = Field(ge=0, description="reals that are called synthetic")
    false_real: int = Field(ge=0, description="synthetics that are called real")
    unsure_real: int = Field(0, ge=0, description="reals that are left undecided")
    unsure_synthetic: int = Field(0, ge=0, description="synthetics that are left undecided")


class Calibration(BaseModel):
    """What a detector stores of its calibration: the map, the decisions, and where they are from.

    `threshold` and `band` are probabilities. An image with low <= p < high is left undecided;
    without a band, p >= threshold is synthetic. Probabilities hold where the share of synthetic
    images is `prevalence`, or else that of the calibration items.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method
    parameters: Parameters
    threshold: float = Field(EVEN_ODDS, ge=0, description="probability from which on: synthetic")
    band: tuple[float, float] | None = Field(None, description="abstain where low <= p < high")
    n: int = Field(ge=1, description="number of calibration items")
    items_hash: str = Field(description="hash of the list of calibration items")
    detector_hash: str = Field(description="hash of weights, architecture and preprocessing")
    preprocessing_hash: str = Field(description="hash of the preprocessing")
    share_synthetic: float | None = Field(
        None, gt=0, lt=1, description="of the calibration items; none: not recorded"
    )
    prevalence: float | None = Field(
        None, gt=0, lt=1, description="share of synthetic images to which the map is shifted"
    )
    operating_point: OperatingPoint | None = Field(
        None, description="what was asked of the threshold, and what it does"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.prevalence is not None and self.share_synthetic is None:
            raise ValueError("a prevalence needs the share that it is shifted from")
        if self.operating_point and self.band and self.band[1] < self.threshold:
            raise ValueError("the band ends below the threshold: the promised rate would not hold")
        return self

    observed: Observed | None = Field(None, description="decisions on the calibration images")

    def apply(self, logits_N: ArrayLike) -> Floats:
        """Probability that each image is synthetic, float64, in [0, 1]."""
        p_N = probabilities(self.method, self.parameters, logits_N)
        if self.prevalence is None or self.share_synthetic is None:
            return p_N
        return at_prevalence(p_N, self.share_synthetic, self.prevalence)

    @property
    def turned(self) -> str:
        """Said where low scores mean synthetic under it; else empty."""
        slope = self.parameters.get("slope")
        turned = isinstance(slope, float) and slope < 0
        return f"it turns the scores round (slope {slope:.3g})" if turned else ""

    @property
    def holds_at(self) -> float | None:
        """Share of synthetic images at which the probabilities hold, where it is known."""
        return self.prevalence or self.share_synthetic

    def describe(self) -> list[str]:
        """In words: false positives, recall, and where the probabilities hold."""
        lines = self.operating_point.describe() if self.operating_point else []
        share = self.holds_at
        if share is None:
            return lines
        text = f"probabilities hold where {percent(share)} of the images are synthetic, "
        text += "as was asked" if self.prevalence else "as in the calibration set"
        if self.operating_point is None:
            return [*lines, text]
        observed, least = self.operating_point.precision(share)
        if least is not None:
            text += f"; there at least {percent(least)} of what is called synthetic is, with both "
            text += f"rates at their bounds, and {percent(observed or 0)} by the observed ones"
        elif observed is not None:
            text += f"; there {percent(observed)} of what is called synthetic is, by these rates"
        return [*lines, text]

    def decide(self, probabilities_N: ArrayLike) -> NDArray[np.int8]:
        """1 synthetic, 0 real, -1 undecided (inside the band)."""
        values = np.asarray(probabilities_N, dtype=np.float64)
        low, high = self.band or (self.threshold, self.threshold)
        return np.where(values >= high, 1, np.where(values < low, 0, -1)).astype(np.int8)

    def with_observed(self, probabilities_N: ArrayLike, labels_N: ArrayLike) -> "Calibration":
        """The same, with what it decides on its own images of labels 1 (synthetic) and 0."""
        decided, labels = self.decide(probabilities_N), np.asarray(labels_N)

        def count(label: int, decision: int) -> int:
            return int(((labels == label) & (decided == decision)).sum())

        observed = Observed(
            num_real=int((labels == 0).sum()),
            num_synthetic=int((labels == 1).sum()),
            false_synthetic=count(0, 1),
            false_real=count(1, 0),
            unsure_real=count(0, -1),
            unsure_synthetic=count(1, -1),
        )
        return self.model_copy(update={"observed": observed})

    @property
    def hash(self) -> str:
        """SHA-256 of all fields in hexadecimal, the same on every machine.

        Fields that older detectors lack count only where they are set: theirs keep their hash.
        """
        unset = {name for name in _LATER if getattr(self, name) is None}
        fields = self.model_dump(mode="json", exclude={"observed", *unset})
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def at_prevalence(p_N: Floats, share_synthetic: float, prevalence: float) -> Floats:
    """Probabilities at another share of synthetic images: their log-odds shift by the prior's.

    Holds where only the share differs (Saerens, Latinne and Decaestecker, Neural Computation 2002).
    """
    shift = special.logit(prevalence) - special.logit(share_synthetic)
    return np.asarray(special.expit(special.logit(p_N) + shift))


def fit(
    method: Method | Literal["auto"],
    logits_N: ArrayLike,
    labels_N: ArrayLike,
    *,
    smooth: bool = True,
    temperature: float | None = None,
    importance: Importance | None = None,
) -> Calibrator:
    """Fits one method, or the one that `auto` picks, on labels 1 (synthetic) and 0 (real).

    `smooth` replaces the labels of every parametric method by Platt's targets (N1 + 1)/(N1 + 2)
    and 1/(N0 + 2) (Platt 1999), so that separated classes give finite parameters. `auto` takes,
    in the order of AUTO_FROM and among its methods for n, the first whose 5-fold cross-validated
    NLL is within one standard error (of the paired difference) of the lowest; with fewer than 5
    items of a class, or where no real reaches a synthetic and NLL would reward any confidence, it
    takes Platt. It does so too where the scores run against the labels, which Platt alone can turn
    round, with a warning. A `temperature` is taken as it is, with method temperature. With
    `importance` the items were not drawn alike: the fit is weighted, and what is tested is so on
    the even sample; the method must be named.

    Raises:
        UserError: unknown method, lengths that differ, a label that is not 0 or 1, a class
            missing, logits that are not finite or all equal, scores that run against the labels
            (all but Platt), or separated classes without smoothing.
    """
    z, labels = checked(logits_N, labels_N)
    even = slice(None) if importance is None else importance.even_N
    direction = Direction.of(z[even], labels[even])
    if method == "auto":
        assert importance is None, "settings ask for a method by name"
        chosen = "platt" if direction.against else _choose(z, labels, smooth)
    elif method in get_args(Method):
        chosen = method
    else:
        known = ", ".join(get_args(Method))
        raise UserError(f"calibration method {method!r} is unknown: take {known} or auto")
    if direction.against and chosen != "platt":
        raise UserError(
            f"{chosen} cannot be fitted: {direction.describe()}; check the labels, or take platt, "
            "which turns the scores round"
        )
    if temperature is not None:
        parameters: Parameters = {"temperature": temperature}
    else:
        weights_N = None if importance is None else importance.weights_N
        parameters = fit_parameters(chosen, z, labels, smooth, weights_N)
    interval = slope_interval(z[even], labels[even])
    return Calibrator(
        method=chosen,
        parameters=parameters,
        n=len(z),
        slope_interval=interval,
        warning="; ".join(warnings(chosen, parameters, z[even], labels[even], interval)),
    )


def slope_interval(logits_N: Floats, labels_N: Floats) -> tuple[float, float] | None:
    """95 % Wald interval of the slope of a smoothed Platt fit; None where all logits are equal.

    Smoothing flattens on few items, so the interval leans low: in simulations it held the true
    slope 90 times of 100 at N = 200, 93 at 500 and 94 at 1,000.
    """
    if np.ptp(logits_N) == 0:
        return None
    design = np.column_stack([logits_N, np.ones_like(logits_N)])
    weights = newton(design, smoothed_targets(labels_N), np.zeros(len(logits_N)))
    p = special.expit(design @ weights)
    covariance = np.linalg.pinv((design * (p * (1 - p))[:, None]).T @ design)
    half = _Z * float(np.sqrt(covariance[0, 0]))
    return float(weights[0]) - half, float(weights[0]) + half


def _choose(z: Floats, labels: Floats, smooth: bool) -> Method:
    if min(labels.sum(), len(labels) - labels.sum()) < AUTO_FOLDS or separated(z, labels):
        return "platt"
    losses = {
        method: left_out
        for method, least in AUTO_FROM.items()
        if len(z) >= least and (left_out := _left_out_losses(method, z, labels, smooth)) is not None
    }
    best = min(losses.values(), key=lambda left_out: float(left_out.mean()))
    for method, left_out in losses.items():
        excess = left_out - best
        if excess.mean() <= excess.std() / np.sqrt(len(z)):
            return method
    raise AssertionError("the best method is within its own error")


def _left_out_losses(method: Method, z: Floats, labels: Floats, smooth: bool) -> Floats | None:
    """NLL of each item under a fit without its fold; None where a fit fails.

    The k-th item of a class by logit goes to fold k mod 5: the choice does not depend on the
    order of the items.
    """
    folds = np.empty(len(z), dtype=np.int64)
    for label in (0, 1):
        members = np.flatnonzero(labels == label)
        folds[members[np.argsort(z[members], kind="stable")]] = np.arange(len(members)) % AUTO_FOLDS
    epsilon, p = np.finfo(np.float64).eps, np.empty(len(z))
    try:
        fit_parameters(method, z, labels, smooth)
        for fold in range(AUTO_FOLDS):
            inside = folds != fold
            parameters = fit_parameters(method, z[inside], labels[inside], smooth)
            p[~inside] = probabilities(method, parameters, z[~inside])
    except UserError:
        return None
    p = np.clip(p, epsilon, 1 - epsilon)
    return np.where(labels == 1, -np.log(p), -np.log1p(-p))
