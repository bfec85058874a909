"""What a detector's verdicts rest on: what it was trained on, and on what it was measured.

It stands in `detector.json`, and no hash depends on it: a detector that is measured once more is
the same detector.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from rayapp.config.settings import Settings
from rayapp.config.yaml_files import read_yaml

UNKNOWN = "what it was trained on is not recorded"
UNMEASURED = "not measured on any test set: how often it is wrong is not known"
NOT_RECORDED = f"{UNKNOWN}, nor on what it was measured"  # of a detector that has no scope
_MOST_NAMED = 4
# The figures that a scope keeps: name in words, and whether it is said in percent.
_WORDS = {
    "roc_auc": ("ROC AUC", False),
    "balanced_accuracy": ("balanced accuracy", True),
    "accuracy": ("accuracy", True),
    "false_positive_rate": ("false-positive rate", True),
    "accuracy_synthetic": ("recall of synthetic images", True),
    "recall": ("accuracy of the class", True),
    "average_precision": ("average precision", False),
}
FIGURES = tuple(_WORDS)
_MAIN = ("roc_auc", "false_positive_rate")  # said in one line, where they are known
_BEFORE = ", before calibration"
# They do not depend on where the threshold lies.
_RANKS = frozenset({"roc_auc", "average_precision"})


class Quantity(Settings):
    """A figure, with its 95 % interval where one is known."""

    value: float = Field(description="the figure")
    low: float | None = Field(None, description="lower end of the 95 % interval")
    high: float | None = Field(None, description="upper end")


class Images(Settings):
    """A set of images."""

    name: str = Field("", description="what they are, in words")
    lists: tuple[str, ...] = Field((), description="URIs of their annotation lists")
    num_real: int | None = Field(None, ge=0, description="real images, where known")
    num_synthetic: int | None = Field(None, ge=0, description="synthetic images, where known")
    generators: tuple[str, ...] = Field((), description="what made the synthetic ones")
    date: str = Field("", description="when they were used, ISO 8601 (UTC), as far as known")

    def describe(self) -> str:
        """Its name or its lists' names, its counts, and who made the synthetic ones."""
        name = self.name or ", ".join(uri.rpartition("/")[2] for uri in self.lists)
        counts = {"real": self.num_real, "synthetic": self.num_synthetic}
        known = [f"{num:,} {kind}" for kind, num in counts.items() if num is not None]
        if known and self.generators:
            known[-1] += f" by {_named(self.generators)}"
        counted = ", ".join(known)
        return f"{name} ({counted})" if name and counted else name or counted


class Measured(Images):
    """Figures of the detector on a set of images that it was neither trained nor calibrated on."""

    figures: dict[str, Quantity] = Field(description="figure by name, see FIGURES")
    threshold: float | None = Field(None, description="probability at which the rates hold")
    source: str = Field("", description="who measured it; empty: evaluate")

    def after_calibration(self, turned: bool = False) -> "Measured | None":
        """What another threshold leaves of it; None where that is nothing.

        Of scores that are turned round by it not even their order is left.

        What others measured is all that is known of a published detector: it stays, and says when.
        """
        if self.source:
            holds = self.figures.keys() <= _RANKS and not turned
            holds = holds or self.name.endswith(_BEFORE)
            return self if holds else self.model_copy(update={"name": self.name + _BEFORE})
        ranks = set() if turned else _RANKS
        kept = {name: value for name, value in self.figures.items() if name in ranks}
        return self.model_copy(update={"figures": kept, "threshold": None}) if kept else None


class Scope(Settings):
    """What `detector.json` says of the grounds of the detector's verdicts."""

    about: str = Field("", description="what the detector is, in a line")
    trained: Images | None = Field(None, description="what it was trained on")
    calibrated: Images | None = Field(None, description="what it was calibrated on")
    measured: tuple[Measured, ...] = Field((), description="on what it was measured, newest first")

    def with_measured(self, found: Measured) -> "Scope":
        """With one measurement more; an older one on the same images gives way, a newer stays."""
        if found in self.measured:
            return self
        same = [m for m in self.measured if (m.name, m.lists) == (found.name, found.lists)]
        if any(m.date > found.date for m in same):
            return self
        others = tuple(m for m in self.measured if m not in same)
        return self.model_copy(update={"measured": (found, *others)})

    def recalibrated(self, on: Images, turned: bool = False) -> "Scope":
        """After a calibration: what was measured at the old threshold does not hold any more.

        `turned`: the scores mean the opposite of what they meant before it.
        """
        kept = (one.after_calibration(turned) for one in self.measured)
        return self.model_copy(
            update={"calibrated": on, "measured": tuple(one for one in kept if one)}
        )

    def line(self) -> str:
        """What to know before one believes a verdict, in one line."""
        trained = f"trained on {self.trained.describe()}" if self.trained else UNKNOWN
        parts = [self.about or trained]
        for one in self.measured[:1]:
            by = one.source or one.date[:10]
            main = {name: one.figures[name] for name in _MAIN if name in one.figures}
            figures = describe_figures(main or one.figures) + (f" ({by})" if by else "")
            parts.append(f"measured on {one.describe()}: {figures}")
        return "; ".join(parts if self.measured else [*parts, UNMEASURED])


def published_scope(name: str) -> Scope:
    """What others say of a published detector, each figure with its source (`scopes.yaml`)."""
    return _published()[name]


@functools.cache
def _published() -> dict[str, Scope]:
    data, _ = read_yaml(Path(__file__).parent / "scopes.yaml")
    return {name: Scope.model_validate(scope) for name, scope in data.items()}


def describe_figures(figures: Mapping[str, Quantity]) -> str:
    """Figures in words, with their intervals."""
    return ", ".join(_figure(name, figures[name]) for name in FIGURES if name in figures)


def _figure(name: str, found: Quantity) -> str:
    words, percent = _WORDS[name]
    scale, digits, unit = (100, 1, " %") if percent else (1, 3, "")
    value, low, high = (
        None if v is None else f"{scale * v:.{digits}f}"
        for v in (found.value, found.low, found.high)
    )
    interval = "" if low is None or high is None else f" ({low}–{high})"
    return f"{words} {value}{unit}{interval}"


def _named(names: tuple[str, ...]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
