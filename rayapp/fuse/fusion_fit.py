"""The weights of a fusion, from stored scores, and how it does on images that they did not see.

Shapes: N images · P parts, the detectors that are fused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rayapp.config.errors import UserError
from rayapp.metrics.compare import compare_auc
from rayapp.metrics.measure import Difference
from rayapp.metrics.ranking import roc_auc
from rayapp.models.calibration import calibrators
from rayapp.models.calibration.fits import smoothed_targets
from rayapp.models.detector import Detector
from rayapp.models.fusion import Floats, Fusion, FusionMethod, FusionPart

NUM_FOLDS = 5
_LEAST_OF_A_CLASS = 2 * NUM_FOLDS
_BY_CHANCE = (
    "no detector ranks these images as the labels say: there is nothing to fuse; give more images, "
    "or other detectors"
)
_RIDGE = 1e-6  # parts that say the same share the weight: else it would be anyone's

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Weights:
    """What makes one logit of several: see Fusion."""

    slopes: list[float]
    shifts: list[float]
    weights: list[float]
    bias: float

    def fused(self, logits_NP: Floats) -> Floats:
        """Fused logits [N]."""
        log_odds_NP = logits_NP * np.array(self.slopes) + np.array(self.shifts)
        return np.asarray(log_odds_NP @ np.array(self.weights) + self.bias)


@dataclass(frozen=True)
class Judged:
    """A part alone, and how much better the fusion ranks the same images."""

    name: str
    auc: float | None
    gain: Difference


@dataclass(frozen=True)
class Figures:
    """ROC AUC of the fusion, and of each part; `folds` 0: on the images of the fit themselves."""

    auc: float | None
    folds: int
    parts: list[Judged]


def check_direction(logits_NP: Floats, labels_N: Ints, names: Sequence[str]) -> None:
    """Nothing where no detector's scores run against the labels, by more than chance.

    Raises:
        UserError: those of one do.
    """
    for name, logits_N in zip(names, logits_NP.T, strict=True):
        interval = calibrators.slope_interval(logits_N, labels_N.astype(np.float64))
        if interval and interval[1] < 0:
            raise UserError(f"{name}: its scores run against the labels; leave it out")


def fit_weights(
    method: FusionMethod, logits_NP: Floats, labels_N: Ints, names: Sequence[str]
) -> Weights:
    """Each part's own log-odds by a Platt fit, then their weights in the whole.

    Raises:
        UserError: a part has one logit for all images, or no part ranks better than chance.
    """
    pairs = [
        _platt(name, logits_N, labels_N) for name, logits_N in zip(names, logits_NP.T, strict=True)
    ]
    slopes, shifts = [slope for slope, _ in pairs], [shift for _, shift in pairs]
    log_odds_NP = logits_NP * np.array(slopes) + np.array(shifts)
    num_parts = len(slopes)
    if not any(slopes):  # the whole would be one number for all images
        raise UserError(_BY_CHANCE)
    if method == "stacking":
        weights, bias = _stacked(log_odds_NP, labels_N)
        return Weights(slopes, shifts, weights, bias)
    shares = np.ones(num_parts)
    if method == "weighted":
        aucs = [roc_auc(labels_N, logits_N).value or 0.5 for logits_N in logits_NP.T]
        shares = np.maximum(2 * np.array(aucs) - 1, 0)
    if not shares.any():
        raise UserError(_BY_CHANCE)
    return Weights(slopes, shifts, (shares / shares.sum()).tolist(), 0.0)


def _platt(name: str, logits_N: Floats, labels_N: Ints) -> tuple[float, float]:
    """Slope and shift of a part's own log-odds; slope 0 where it tells nothing apart."""
    try:
        fitted = calibrators.fit("platt", logits_N, labels_N)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    slope, shift = (float(cast(float, fitted.parameters[key])) for key in ("slope", "bias"))
    if slope > 0:
        return slope, shift
    share = float(smoothed_targets(labels_N.astype(np.float64)).mean())
    return 0.0, float(np.log(share) - np.log1p(-share))


def _stacked(log_odds_NP: Floats, labels_N: Ints) -> tuple[list[float], float]:
    """Logistic regression on Platt's targets, with weights of at least 0; and its bias."""
    from scipy import optimize, special  # takes half a second to import

    num_parts = log_odds_NP.shape[1]
    targets_N = smoothed_targets(labels_N.astype(np.float64))
    design = np.column_stack([log_odds_NP, np.ones(len(log_odds_NP))])

    def loss(weights: Floats) -> tuple[float, Floats]:
        logits_N = design @ weights
        losses_N = np.logaddexp(0, logits_N) - targets_N * logits_N
        gradient = design.T @ (special.expit(logits_N) - targets_N) / len(targets_N)
        return float(losses_N.mean() + _RIDGE / 2 * weights @ weights), gradient + _RIDGE * weights

    start = np.append(np.full(num_parts, 1 / num_parts), 0.0)
    bounds = [(0.0, None)] * num_parts + [(None, None)]
    found = optimize.minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 10_000},
    )
    return found.x[:-1].tolist(), float(found.x[-1])


def make_fusion(
    method: FusionMethod,
    weights: Weights,
    detectors: Sequence[Detector],
    names: Sequence[str],
    disagree_above: float | None,
) -> Fusion:
    """The fusion of detectors by fitted weights."""
    parts = [
        FusionPart(
            name=name,
            detector_hash=detector.hash(),
            spec=detector.spec.model_dump(mode="json"),
            slope=weights.slopes[at],
            shift=weights.shifts[at],
            weight=weights.weights[at],
        )
        for at, (name, detector) in enumerate(zip(names, detectors, strict=True))
    ]
    return Fusion(
        method=method, parts=tuple(parts), bias=weights.bias, disagree_above=disagree_above
    )


def judge(
    method: FusionMethod,
    logits_NP: Floats,
    labels_N: Ints,
    names: Sequence[str],
    photographs_N: Sequence[str],
) -> Figures:
    """Each part, the fusion, and the paired difference, where the fusion's weights saw no image.

    Weights are fitted on four fifths of the photographs and used on the fifth, in turn; with fewer
    than ten images of a class on all, which flatters the fusion.
    """
    folds_N = _folds(labels_N, photographs_N)
    fused_N = np.empty(len(labels_N))
    if folds_N is None:
        fused_N = fit_weights(method, logits_NP, labels_N, names).fused(logits_NP)
    else:
        for fold in range(NUM_FOLDS):
            out = folds_N == fold
            fitted = fit_weights(method, logits_NP[~out], labels_N[~out], names)
            fused_N[out] = fitted.fused(logits_NP[out])
    groups = np.unique(np.asarray(photographs_N), return_inverse=True)[1]
    parts = [
        Judged(
            name,
            roc_auc(labels_N, logits_N).value,
            compare_auc(labels_N, fused_N, logits_N, groups),
        )
        for name, logits_N in zip(names, logits_NP.T, strict=True)
    ]
    return Figures(roc_auc(labels_N, fused_N).value, 0 if folds_N is None else NUM_FOLDS, parts)


def _folds(labels_N: Ints, photographs_N: Sequence[str]) -> Ints | None:
    """The fold of each image, by its photograph; None where the classes are too small."""
    if min((labels_N == label).sum() for label in (0, 1)) < _LEAST_OF_A_CLASS:
        return None
    # By class and name: each fold has its share of both, whatever the order of the list.
    label_of = dict(zip(photographs_N, labels_N.tolist(), strict=True))
    order = sorted(label_of, key=lambda name: (label_of[name], name))
    fold_of = {name: at % NUM_FOLDS for at, name in enumerate(order)}
    folds_N = np.array([fold_of[name] for name in photographs_N])
    whole = all(len(set(labels_N[folds_N != fold])) == 2 for fold in range(NUM_FOLDS))
    return folds_N if whole else None
