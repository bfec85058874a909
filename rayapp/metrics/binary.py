"""All figures of a detector of synthetic images on one set of items."""

from collections.abc import Callable

import numpy as np

from rayapp.config.defaults import EVEN_ODDS
from rayapp.metrics import probability, ranking
from rayapp.metrics.measure import Floats, Measure, class_reason
from rayapp.metrics.scored import Scored

TITLES = {
    "balanced_accuracy": "Balanced accuracy",
    "false_positive_rate": "False-positive rate",
    "accuracy_real": "Accuracy, reals",
    "accuracy_synthetic": "Accuracy, synthetics",
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "tpr_at_fpr_1pct": "TPR at 1% FPR",
    "tpr_at_fpr_5pct": "TPR at 5% FPR",
    "eer": "EER",
    "nll": "NLL",
    "brier": "Brier",
    "calibration_error": "Calibration error",
}
FIGURES = tuple(TITLES)
LOWER_IS_BETTER = frozenset({"false_positive_rate", "eer", "nll", "brier", "calibration_error"})
MIN_FOR_CALIBRATION = 20


class Weighted:
    """The figures of fixed items under changing weights (how often each item is counted).

    Everything that does not depend on the weights is done once: 1,000 resamples sort nothing.
    """

    def __init__(self, scored: Scored, threshold: float = EVEN_ODDS) -> None:
        self.scored = scored
        self._labels = scored.labels_N.astype(np.float64)
        self._correct = (scored.probabilities_N >= threshold) == (scored.labels_N == 1)
        self._ends = ranking.threshold_ends(scored.scores_N)
        self._losses = probability.log_losses(scored.labels_N, scored.probabilities_N)
        self._squares = (scored.probabilities_N - scored.labels_N) ** 2
        self._order = np.argsort(scored.probabilities_N, kind="stable")
        self._starts = probability.equal_mass_starts(scored.probabilities_N[self._order])

    def figures(self, weights_RN: Floats) -> dict[str, Floats]:
        """Every figure for each row of weights, NaN where not defined; calibration error squared.

        The square is left in place because intervals correct its bias before the root.
        """
        real, synthetic = self._accuracies(weights_RN)
        counts = ranking.count_above(self.scored.labels_N, self._ends, weights_RN)
        sorted_labels = self.scored.labels_N[self._order]
        sorted_probabilities = self.scored.probabilities_N[self._order]
        return {
            "balanced_accuracy": (real + synthetic) / 2,
            "false_positive_rate": 1 - real,
            "accuracy_real": real,
            "accuracy_synthetic": synthetic,
            "roc_auc": ranking.auc(counts),
            "average_precision": ranking.average_precision(counts),
            "tpr_at_fpr_1pct": ranking.tpr_at_fpr(counts, 0.01),
            "tpr_at_fpr_5pct": ranking.tpr_at_fpr(counts, 0.05),
            "eer": ranking.equal_error_rate(counts),
            "nll": _mean(weights_RN, self._losses),
            "brier": _mean(weights_RN, self._squares),
            "calibration_error": probability.squared_calibration_error(
                sorted_labels, sorted_probabilities, weights_RN[:, self._order], self._starts
            ),
        }

    def _accuracies(self, weights_RN: Floats) -> tuple[Floats, Floats]:
        hits = weights_RN * self._correct
        synthetic_hits = (hits * self._labels).sum(axis=1)
        num_synthetic = (weights_RN * self._labels).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            real = (hits.sum(axis=1) - synthetic_hits) / (weights_RN.sum(axis=1) - num_synthetic)
            return np.asarray(real), np.asarray(synthetic_hits / num_synthetic)

    def reason(self, figure: str) -> str:
        """Why a figure has no value on these items; empty when it has one."""
        num_real, num_synthetic = self.scored.num_real, self.scored.num_synthetic
        num_items = num_real + num_synthetic
        if figure in ("accuracy_real", "false_positive_rate"):
            return "" if num_real else "no real items"
        if figure == "accuracy_synthetic":
            return "" if num_synthetic else "no synthetic items"
        if figure in ("nll", "brier"):
            return "" if num_items else "no items"
        if figure == "calibration_error":
            enough = num_items >= MIN_FOR_CALIBRATION
            return "" if enough else f"needs {MIN_FOR_CALIBRATION} items, has {num_items}"
        return class_reason(num_real, num_synthetic)


def evaluate(scored: Scored, threshold: float = EVEN_ODDS) -> dict[str, Measure]:
    """Every figure of FIGURES; an item with probability >= `threshold` is called synthetic.

    Accuracies are recalls of one class; a figure that needs a missing class has a reason and no
    value. `nll` is in nats an item; `calibration_error` is the signed root of the debiased
    squared error over 15 equal-mass bins, in units of probability.
    """
    if not len(scored.labels_N):
        return {figure: Measure(None, reason="no items") for figure in FIGURES}
    weighted = Weighted(scored, threshold)
    values = weighted.figures(np.ones((1, len(scored.labels_N))))
    return {figure: _measure(figure, values[figure], weighted.reason) for figure in FIGURES}


def _measure(figure: str, values: Floats, reason_of: Callable[[str], str]) -> Measure:
    reason = reason_of(figure)
    if reason:
        return Measure(None, reason=reason)
    return Measure(float(finish(figure, values)[0]))


def finish(figure: str, values: Floats) -> Floats:
    """Values of Weighted.figures in the unit in which they are reported."""
    return probability.signed_root(values) if figure == "calibration_error" else values


def _mean(weights_RN: Floats, values_N: Floats) -> Floats:
    with np.errstate(invalid="ignore"):  # a slice of which a resample holds nothing
        return np.asarray((weights_RN * values_N).sum(axis=1) / weights_RN.sum(axis=1))
