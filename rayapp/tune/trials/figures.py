"""The figures of a trial, from logits of images that it was not trained on.

Shapes: N images. Calibration is cross-fitted: fitted on one half of the photographs and measured
on the other.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayapp.calibrate.choices import decide, fit_calibrator
from rayapp.calibrate.settings import CalibrateSettings
from rayapp.config.defaults import EVEN_ODDS
from rayapp.config.errors import UserError
from rayapp.dataset.labels import LabelScheme
from rayapp.metrics.binary import evaluate
from rayapp.metrics.measure import Measure
from rayapp.metrics.probability import log_losses
from rayapp.metrics.ranking import roc_auc
from rayapp.metrics.scored import Scored
from rayapp.metrics.slices import macro
from rayapp.metrics.testset import TestSet

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
_MIN_OF_A_SLICE = 10  # of each class, or the slice says nothing


@dataclass(frozen=True)
class Judged:
    """Scored images with label codes by column; `fit_N` are those that calibration may see."""

    codes: Mapping[str, NDArray[np.int64]]
    logits_N: Floats
    groups_N: NDArray[np.str_]
    fit_N: Mask
    held_out: tuple[str, ...] = ()

    @property
    def labels_N(self) -> NDArray[np.int64]:
        """1 synthetic, 0 real."""
        return self.codes["origin"]

    def slices(self, scheme: LabelScheme) -> dict[str, Mask]:
        """Every slice that is large enough, by `column: name`."""
        test = TestSet(dict(self.codes), self.logits_N, self.logits_N, None, EVEN_ODDS)
        labels = self.labels_N
        return {
            f"{column}: {name}": mask
            for column, name, mask in test.slices(scheme, self.held_out)
            if column
            and min((labels[mask] == 0).sum(), (labels[mask] == 1).sum()) >= _MIN_OF_A_SLICE
        }


def halves(groups_N: NDArray[np.str_], labels_N: NDArray[np.int64], fit_N: Mask) -> Mask:
    """Which half each image is in: photographs are dealt out by a hash of their names.

    Where a half would lack a class to fit to, images are dealt out instead of photographs.
    """
    names, codes = np.unique(groups_N, return_inverse=True)
    order = np.argsort([hashlib.sha256(f"half\0{name}".encode()).hexdigest() for name in names])
    rank_context = np.empty(len(names), dtype=np.int64)
    rank_context[order] = np.arange(len(names))
    half: Mask = rank_context[codes] % 2 == 1
    if _whole(half, labels_N, fit_N):
        return half
    half = np.zeros(len(labels_N), dtype=bool)
    for label in (0, 1):
        for fit in (False, True):
            half[np.flatnonzero((labels_N == label) & (fit_N == fit))[1::2]] = True
    return half


def _whole(half: Mask, labels_N: NDArray[np.int64], fit_N: Mask) -> bool:
    sides = [labels_N[fit_N & side] for side in (half, ~half)]
    return all((side == 0).any() and (side == 1).any() for side in sides)


def cross_fitted(
    judged: Judged, choice: CalibrateSettings
) -> tuple[Floats, NDArray[np.int8], Mask]:
    """Probability, answer (1, 0, -1 unsure) and whether p >= threshold, by the other half's fit.

    All halves are judged at the share of synthetic images that they have, whatever prevalence the
    choice shifts to in the end.

    Raises:
        UserError: the fit can't be made, or too few reals are in a half for the rate asked for,
            or it is asked for by a column that the label scheme lacks.
    """
    labels, by = judged.labels_N, choice.fpr_by
    if by is not None and by not in judged.codes:
        raise UserError(f"fpr_by {by}: a search knows the columns {', '.join(judged.codes)} alone")
    choice = choice.model_copy(update={"prevalence": None})
    half = halves(judged.groups_N, labels, judged.fit_N)
    probabilities, answers = np.empty(len(labels)), np.empty(len(labels), dtype=np.int8)
    called = np.empty(len(labels), dtype=bool)
    slices = None if by is None else judged.codes[by]
    for side in (half, ~half):
        seen = judged.fit_N & ~side
        fitted = fit_calibrator(choice, judged.logits_N[seen], labels[seen])
        decided = decide(
            choice,
            fitted.apply(judged.logits_N[seen]),
            labels[seen],
            slices_N=None if slices is None else slices[seen],
            photographs_N=judged.groups_N[seen],
        )
        low, high = decided.band or (decided.threshold, decided.threshold)
        p = probabilities[side] = fitted.apply(judged.logits_N[side])
        answers[side] = np.where(p >= high, 1, np.where(p < low, 0, -1))
        called[side] = p >= decided.threshold
    return probabilities, answers, called


def calibration_figures(
    judged: Judged, choice: CalibrateSettings, scheme: LabelScheme
) -> dict[str, float | None]:
    """Accuracy, NLL, Brier, debiased error and what the unsure band leaves; after calibration."""
    try:
        probabilities, answers, called = cross_fitted(judged, choice)
    except UserError:
        if judged.fit_N.all():
            raise  # of a search of calibration, it is all that a trial does
        return {}
    labels = judged.labels_N
    whole = evaluate(Scored.of(labels, judged.logits_N, probabilities))
    losses = log_losses(labels, probabilities)
    slices = {n: Measure(float(losses[m].mean())) for n, m in judged.slices(scheme).items()}
    answered = answers >= 0
    error = whole["calibration_error"].value
    recalls = [float((called[labels == k] == k).mean()) for k in (0, 1)]
    return {
        "balanced_accuracy": sum(recalls) / 2,
        "nll": whole["nll"].value,
        "brier": whole["brier"].value,
        # Below 0 there is less error than chance alone would show: nothing left to gain.
        "calibration_error": None if error is None else max(0.0, error),
        "worst_slice_nll": macro(slices, lower_is_better=True).worst.value or whole["nll"].value,
        "answered": float(answered.mean()),
        "answered_error": float((answers[answered] != labels[answered]).mean())
        if answered.any()
        else 0.0,
    }


def ranking_figures(
    judged: Judged, scheme: LabelScheme
) -> tuple[dict[str, float | None], dict[str, float]]:
    """ROC AUC on what is held out and in the worst slice; and of every slice."""
    slices = {
        name: found.value
        for name, mask in judged.slices(scheme).items()
        if (found := roc_auc(judged.labels_N[mask], judged.logits_N[mask])).value is not None
    }
    chosen = held_out_mask(judged)
    held = roc_auc(judged.labels_N[chosen], judged.logits_N[chosen]).value
    figures = {
        "held_out_roc_auc": held,
        "worst_slice_roc_auc": min([v for v in (held, *slices.values()) if v is not None]),
    }
    return figures, slices


def held_out_mask(judged: Judged) -> Mask:
    """What calibration may not see, which is held out, and every image of the other class."""
    unseen = ~judged.fit_N
    return np.asarray(unseen | ~np.isin(judged.labels_N, judged.labels_N[unseen]))


def held_out_auc(judged: Judged, logits_N: Floats) -> float | None:
    """ROC AUC of other logits of the same images, NaN where an image has none."""
    chosen = held_out_mask(judged) & ~np.isnan(logits_N)
    return roc_auc(judged.labels_N[chosen], logits_N[chosen]).value


_WORST = {"worst_slice_roc_auc": min, "worst_slice_nll": max}


def over_folds(folds: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Mean of each figure over folds, of a worst one the worst; None where a fold has none."""
    found: dict[str, float | None] = {}
    for name in dict.fromkeys(name for fold in folds for name in fold):
        values = [fold.get(name) for fold in folds]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            found[name] = None
        else:
            found[name] = float(_WORST.get(name, np.mean)(known))
    return found
