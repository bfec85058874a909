"""What a trial is judged by: figures, which way is better, and several of them as one or many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from rayapp.config.errors import JobFailed

Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class FigureKind:
    """A figure that a search may aim at: its title, whether more is better, and which trials."""

    title: str
    higher_is_better: bool
    kinds: tuple[str, ...] = ("train", "calibrate")


_TRAIN = ("train",)
FIGURES = {
    "held_out_roc_auc": FigureKind("ROC AUC on what was held out", True, _TRAIN),
    "worst_slice_roc_auc": FigureKind("ROC AUC of the worst slice", True, _TRAIN),
    "robustness_roc_auc": FigureKind("ROC AUC under perturbation, mean", True, _TRAIN),
    "balanced_accuracy": FigureKind("Balanced accuracy at the calibrated threshold", True),
    "images_per_s": FigureKind("Images scored per second", True, _TRAIN),
    "nll": FigureKind("NLL after calibration", False),
    "brier": FigureKind("Brier score after calibration", False),
    "calibration_error": FigureKind("Calibration error after calibration", False),
    "worst_slice_nll": FigureKind("NLL of the worst slice", False),
    "answered": FigureKind("Share answered, outside the unsure band", True),
    "answered_error": FigureKind("Share wrong among those answered", False),
}
# Measured by the clock: two runs of one trial never agree to the last digit.
TIMED = frozenset({"images_per_s"})


@dataclass(frozen=True)
class Goal:
    """What a study optimises: one value, or several at once."""

    weights: Mapping[str, float]
    pareto: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of the values, in order."""
        return tuple(self.weights) if self.pareto or len(self.weights) == 1 else ("weighted",)

    @property
    def maximise(self) -> tuple[bool, ...]:
        """Whether each value is to be large; a weighted sum always is."""
        if self.names == ("weighted",):
            return (True,)
        return tuple(FIGURES[name].higher_is_better for name in self.names)

    @property
    def title(self) -> str:
        """The first value in words."""
        return title(self.names[0])

    def values(self, figures: Figures) -> tuple[float, ...]:
        """The values of a trial.

        Raises:
            JobFailed: a figure that is wanted is missing or not finite.
        """
        found = {}
        for name in self.weights:
            value = figures.get(name)
            if value is None or not isfinite(value):
                raise JobFailed(f"{name} is {'missing' if value is None else value}")
            found[name] = value
        if self.names != ("weighted",):
            return tuple(found.values())
        signs = {name: 1 if FIGURES[name].higher_is_better else -1 for name in found}
        return (sum(self.weights[name] * signs[name] * found[name] for name in found),)

    def better(self, first: Sequence[float], second: Sequence[float]) -> bool:
        """Whether the first value of `first` is better."""
        return first[0] > second[0] if self.maximise[0] else first[0] < second[0]


def title(name: str) -> str:
    """A value's name in words."""
    return FIGURES[name].title if name in FIGURES else "Weighted sum of the objectives"


def front(points: Sequence[Sequence[float]], maximise: Sequence[bool]) -> list[int]:
    """Indices of the points that no other point beats: as good in all values, better in one."""
    signed = [
        tuple(v if up else -v for v, up in zip(point, maximise, strict=True)) for point in points
    ]
    return [
        at
        for at, mine in enumerate(signed)
        if not any(
            all(o >= m for o, m in zip(other, mine, strict=True)) and other != mine
            for other in signed
        )
    ]
