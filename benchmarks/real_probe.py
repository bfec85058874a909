"""A linear probe of frozen features: ridge regression, its strength and threshold from inner folds.

Every source of real images and every family of generators weighs the same within its class, so that
none leads by its number. Dimensions are standardised by the training images alone; strength and
threshold are chosen on inner folds of whole families and groups, never on what is judged.

Shapes: N training images · M other images · C features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.real_set import deal
from rayapp.metrics.ranking import roc_auc
from rayapp.models.calibration.fits import newton, smoothed_targets

Floats = NDArray[np.float64]
Single = NDArray[np.float32]
Ints = NDArray[np.int64]
Names = NDArray[np.str_]
STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)  # of the ridge, as shares of the features' variance
_INNER_PARTS = 3
_TINY = 1e-6


@dataclass(frozen=True)
class Probe:
    """A fitted probe: a score is `(x - mean) / scale @ weights + bias`."""

    mean_C: Single
    scale_C: Single
    weights_C: Single
    bias: float
    threshold: float  # synthetic from this score on; both errors weigh the same
    strength: float

    def scores(self, features_MC: Single) -> Floats:
        """The score of each image; higher is synthetic."""
        slope_C = self.weights_C / self.scale_C
        scores = features_MC @ slope_C + (self.bias - self.mean_C @ slope_C)
        return np.asarray(scores, dtype=np.float64)


def fit_probe(
    features_NC: Single,
    origins_N: Ints,
    kinds_N: Names,
    groups_N: Names,
    strengths: Sequence[float] = STRENGTHS,
) -> Probe:
    """Fit to training images.

    Args:
        features_NC: of the training images.
        origins_N: 1 synthetic, 0 real.
        kinds_N: source or family, which weigh the same and which an inner fold leaves out whole.
        groups_N: what an inner fold leaves out whole where a class is of one kind.
        strengths: of the ridge, of which the inner folds choose one.
    """
    mean_C, scale_C = features_NC.mean(0), features_NC.std(0) + _TINY
    x_NC = (features_NC - mean_C) / scale_C
    gram_NN = (x_NC @ x_NC.T).astype(np.float64) / x_NC.shape[1]
    inner = list(_inner_folds(origins_N, kinds_N, groups_N))
    found = {one: _left_out(gram_NN, origins_N, kinds_N, inner, one) for one in strengths}
    strength = max(strengths, key=lambda one: _auc_within(found[one], origins_N, inner))
    coefficients_N, bias = ridge(gram_NN, origins_N, balanced(origins_N, kinds_N), strength)
    weights_C = (coefficients_N.astype(np.float32) @ x_NC) / x_NC.shape[1]
    threshold = _threshold(found[strength], origins_N)
    return Probe(mean_C, scale_C, weights_C, bias, threshold, strength)


def balanced(origins_N: Ints, kinds_N: Names) -> Floats:
    """Weights that sum to 1: half a class, equal shares a kind, equal shares an image of it."""
    weights_N = np.zeros(len(origins_N))
    for origin in (0, 1):
        kinds = np.unique(kinds_N[origins_N == origin])
        for kind in kinds:
            mine = (origins_N == origin) & (kinds_N == kind)
            weights_N[mine] = 0.5 / len(kinds) / mine.sum()
    return weights_N


def ridge(
    gram_NN: Floats, origins_N: Ints, weights_N: Floats, strength: float
) -> tuple[Floats, float]:
    """Coefficients over training images, and bias, of the weighted ridge regression onto ±1.

    An image scores `gram_MN @ coefficients_N + bias`; the bias is not penalised.
    """
    roots_N, targets_N = np.sqrt(weights_N), 2.0 * origins_N - 1
    mean = weights_N @ targets_N
    row_N = gram_NN @ weights_N
    centred_NN = gram_NN - row_N[:, None] - row_N[None] + weights_N @ row_N
    system_NN = centred_NN * roots_N[:, None] * roots_N[None]
    system_NN[np.diag_indices(len(roots_N))] += strength * np.trace(system_NN)
    solved_N = roots_N * np.linalg.solve(system_NN, roots_N * (targets_N - mean))
    coefficients_N = solved_N - weights_N * solved_N.sum()
    return coefficients_N, float(mean - row_N @ coefficients_N)


def _inner_folds(origins_N: Ints, kinds_N: Names, groups_N: Names) -> Iterator[tuple[Ints, Ints]]:
    """(train, left out) of each inner fold: like the world, it brings sources never seen."""
    classes = [origins_N == 0, origins_N == 1]
    if set(kinds_N[classes[0]]) & set(kinds_N[classes[1]]):  # pairs, which stay together
        classes = [np.ones(len(origins_N), dtype=bool)]
    parts = []
    for mine in classes:
        names_N = kinds_N if len(np.unique(kinds_N[mine])) > 1 else groups_N
        parts.append(deal(names_N, mine, min(_INNER_PARTS, len(np.unique(names_N[mine])))))
    for part in range(_INNER_PARTS):
        # Of two sources there are two parts: the third fold leaves the first out once more.
        left = np.any([part_N == part % (part_N.max() + 1) for part_N in parts], axis=0)
        yield np.flatnonzero(~left), np.flatnonzero(left)


def _left_out(
    gram_NN: Floats,
    origins_N: Ints,
    kinds_N: Names,
    inner: list[tuple[Ints, Ints]],
    strength: float,
) -> Floats:
    """The score of each image by the inner model that was not trained on it."""
    scores_N = np.empty(len(origins_N))
    for train, left in inner:
        weights = balanced(origins_N[train], kinds_N[train])
        coefficients, bias = ridge(
            gram_NN[np.ix_(train, train)], origins_N[train], weights, strength
        )
        scores_N[left] = gram_NN[np.ix_(left, train)] @ coefficients + bias
    return scores_N


def _auc_within(scores_N: Floats, origins_N: Ints, inner: list[tuple[Ints, Ints]]) -> float:
    """The mean AUC of the inner folds: scores of two models have no common scale."""
    found = [roc_auc(origins_N[left], scores_N[left]).value for _, left in inner]
    return float(np.mean([value for value in found if value is not None] or [0.0]))


def _threshold(scores_N: Floats, origins_N: Ints) -> float:
    """Where a logistic fit of the left-out scores, each class weighing half, crosses one half."""
    design_ND = np.stack([scores_N, np.ones(len(scores_N))], axis=1)
    slope, bias = newton(
        design_ND, smoothed_targets(origins_N.astype(np.float64)), np.zeros(len(scores_N))
    )
    share = origins_N.mean()
    return float((np.log(share / (1 - share)) - bias) / slope) if slope > _TINY else 0.0
