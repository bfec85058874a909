"""What an evaluation holds, as JSON: figures with intervals, by slice, and where they are from."""

import json
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from rayapp.config.errors import UserError
from rayapp.config.settings import Settings
from rayapp.config.yaml_files import validated
from rayapp.metrics.binary import LOWER_IS_BETTER
from rayapp.metrics.bootstrap import evaluate_with_intervals, macro_with_intervals
from rayapp.metrics.changes import Changes
from rayapp.metrics.false_positives import FalsePositives
from rayapp.metrics.measure import Difference, Measure
from rayapp.metrics.regressions import Regressions
from rayapp.metrics.slices import macro
from rayapp.metrics.testset import Mask, Part, TestSet
from rayapp.models.calibration.decisions import OperatingPoint, precision
from rayapp.models.calibration.direction import Direction
from rayapp.storage.store import Store
from rayapp.transforms.draws import generator

NOT_A_TEST = "NOT A TEST"
EVALUATION_FILE = "metrics.json"
MEAN = "Mean"


class Figure(Settings):
    """A figure with its 95 % interval, or the reason why it has none."""

    value: float | None = Field(None, description="the figure")
    low: float | None = Field(None, description="lower end of the 95 % interval")
    high: float | None = Field(None, description="upper end")
    reason: str = Field("", description="why a value or an interval is missing")

    @classmethod
    def of(cls, measure: Measure) -> "Figure":
        """The same figure, for storing."""
        return cls(value=measure.value, low=measure.low, high=measure.high, reason=measure.reason)

    def measure(self) -> Measure:
        """The same figure, for drawing."""
        return Measure(self.value, self.low, self.high, self.reason)


class Slice(Settings):
    """The figures of one part of the test set, or their mean over parts."""

    column: str = Field(description="label column that the slice is cut by; empty: the whole")
    name: str = Field(description="the slice's name")
    num_real: int = Field(description="real images")
    num_synthetic: int = Field(description="synthetic images")
    figures: dict[str, Figure] = Field(description="figure by name")
    level: float | None = Field(None, description="strength of the perturbation, in a sweep")
    published: dict[str, float] = Field({}, description="published value of a figure, by its name")


def difference(part: Slice, name: str) -> tuple[float, bool | None] | None:
    """Our figure minus the published one, and whether that lies in our interval.

    None where either figure is missing, or the interval.
    """
    figure, published = part.figures[name], part.published.get(name)
    if figure.value is None or published is None:
        return None
    within = None
    if figure.low is not None and figure.high is not None:
        within = figure.low <= published <= figure.high
    return figure.value - published, within


class Worst(Settings):
    """The slice in which a figure is worst."""

    name: str = Field(description="the slice's name")
    figure: Figure = Field(description="the figure there")


class SourcePair(Settings):
    """One source of reals against one source of synthetics."""

    real: str = Field(description="source of the reals")
    synthetic: str = Field(description="source of the synthetics")
    roc_auc: Figure = Field(description="area under the ROC curve")
    balanced_accuracy: Figure = Field(Figure(reason="not measured"), description="at the threshold")


class Comparison(Settings):
    """Two detectors on the same images: figure of the first minus that of the second."""

    suite: str = Field(description="name of the suite")
    slice: str = Field(description="name of the slice")
    figure: str = Field(description="what is compared")
    first: str = Field(description="name of a detector")
    second: str = Field(description="name of another")
    difference: Figure = Field(description="with its 95 % interval, paired by image")
    p_value: float | None = Field(None, description="two-sided, not adjusted for their number")
    method: str = Field(description="the test")

    @classmethod
    def of(cls, found: Difference, **what: str) -> "Comparison":
        """A difference, for storing."""
        figure = Figure(value=found.value, low=found.low, high=found.high, reason=found.reason)
        return cls(difference=figure, p_value=found.p_value, method=found.method, **what)


class SeedSpread(Settings):
    """One figure over runs of a recipe that differ in their seed."""

    suite: str = Field(description="name of the suite")
    slice: str = Field(description="name of the slice")
    figure: str = Field(description="the figure")
    num_runs: int = Field(description="how many runs")
    mean: float = Field(description="over runs")
    std: float | None = Field(description="sample standard deviation over runs")
    minimum: float = Field(description="lowest of the runs")
    maximum: float = Field(description="highest of the runs")


class LeftOut(Settings):
    """A detector on what it was never trained on."""

    suite: str = Field(description="name of the suite")
    column: str = Field(description="generator, model, or source of real images")
    name: str = Field(description="the generator, model or source")
    detector: str = Field(description="name of the detector")
    num_real: int = Field(description="real images")
    num_synthetic: int = Field(description="synthetic images")
    roc_auc: Figure = Field(description="area under the ROC curve")
    balanced_accuracy: Figure = Field(description="at the detector's threshold")


Task = Literal["origin", "identification"]
HEADLINES: dict[Task, tuple[str, str]] = {
    "origin": ("balanced_accuracy", "roc_auc"),
    "identification": ("recall", "roc_auc"),
}


class Evaluation(Settings):
    """One detector on one suite."""

    suite: str = Field(description="name of the suite")
    test_set: str = Field(description="name of the test set in tables")
    task: Task = Field("origin", description="real or synthetic, or which generator")
    protocol: str = Field("clean", description="clean or legacy")
    detector_name: str = Field(description="name of the detector in tables")
    detector: str = Field(description="URI of the detector")
    view: str = Field("", description="what the detector sees of an image")
    annotations: tuple[str, ...] = Field(description="URIs of the lists of test images")
    scheme: str = Field(description="label scheme of the lists")
    held_out: tuple[str, ...] = Field((), description="generators never trained on")
    left_out: tuple[str, ...] = Field(
        (), description="of the column asked for, what this detector was never trained on"
    )
    detector_hash: str = Field(description="hash of weights, architecture, preprocessing")
    calibration_hash: str | None = Field(description="hash of the calibration; none: uncalibrated")
    calibration: str = Field("", description="where the calibration comes from, in words")
    threshold: float = Field(description="probability from which on: synthetic")
    band: tuple[float, float] | None = Field(description="unsure between these probabilities")
    holds_at: float | None = Field(
        None, description="share of synthetic images at which the probabilities hold"
    )
    operating_point: OperatingPoint | None = Field(
        None, description="what was asked of the threshold, on the calibration images"
    )
    false_positives: tuple[FalsePositives, ...] = Field(
        (), description="where a rate was asked for: on these images, by its slices"
    )
    inverted: tuple[str, ...] = Field(
        (), description="slices on which the scores run against the labels"
    )
    resampled: str = Field(description="what the intervals resample")
    num_groups: int = Field(description="how many of them there are")
    notes: tuple[str, ...] = Field((), description="what the protocol did, for the table")
    axis: str = Field("", description="of a sweep: what the strength is")
    evidence: str = Field(description="file of the scored images, beside this one")
    slices: list[Slice] = Field(description="the whole first, then by column")
    mean: Slice | None = Field(None, description="unweighted mean over the slices of the table")
    worst: dict[str, Worst] = Field({}, description="figure: slice in which it is worst")
    sources: list[SourcePair] = Field([], description="figures across sources")
    classes: tuple[str, ...] = Field((), description="of identification")
    confusion: list[list[int]] = Field([], description="true class by row, called by column")

    def slice(self, column: str, name: str) -> Slice | None:
        """One slice, or None where the set has none such."""
        return next((s for s in self.slices if (s.column, s.name) == (column, name)), None)

    @property
    def not_a_test(self) -> tuple[str, ...]:
        """The notes that stand before any figure: the detector has seen these images."""
        return tuple(note for note in self.notes if note.startswith(NOT_A_TEST))

    @property
    def whole(self) -> Slice:
        """The whole test set."""
        return self.slices[0]

    @property
    def of_one_class(self) -> bool:
        """Whether all images are real, or all synthetic: nothing can be compared then."""
        return len(self.headline) == 1

    @property
    def table(self) -> list[Slice]:
        """The rows of the published table: every slice but the whole, then the mean."""
        slices = self.slices if self.axis else self.slices[1:]
        return [*slices, *([self.mean] if self.mean else [])]

    @property
    def precision(self) -> float | None:
        """Share of synthetic among what is called synthetic, at these images' rates.

        It is that where the probabilities hold; None where that or a rate is not known.
        """
        wanted = ("accuracy_real", "accuracy_synthetic")
        real, synthetic = (self.whole.figures.get(name, Figure()).value for name in wanted)
        if self.holds_at is None or real is None or synthetic is None:
            return None
        return precision(self.holds_at, synthetic, 1 - real)

    @property
    def headline(self) -> tuple[str, ...]:
        """The figures that say most: the two of the published table; the one of a single class."""
        if self.task == "origin" and not self.whole.num_synthetic:
            return ("false_positive_rate",)
        if self.task == "origin" and not self.whole.num_real:
            return ("accuracy_synthetic",)
        return HEADLINES[self.task]


class Results(Settings):
    """What one run of evaluate found."""

    protocol: str = Field(description="clean or legacy")
    seed: int = Field(description="of every draw")
    resamples: int = Field(description="bootstrap resamples")
    evaluations: list[Evaluation] = Field(description="every detector on every suite")
    comparisons: list[Comparison] = Field([], description="pairs of detectors")
    changes: list[Changes] = Field(
        [], description="images that pairs of detectors call differently"
    )
    left_out: list[LeftOut] = Field([], description="detectors on what each was not trained on")
    spreads: list[SeedSpread] = Field([], description="runs of one recipe")
    regressions: list[Regressions] = Field([], description="known cases under each detector")
    command: str = Field("", description="the command that repeats it")


def read_results(store: Store) -> Results:
    """What evaluate stored in a folder.

    Raises:
        UserError: there is nothing, or nothing that this version writes.
    """
    uri = store.uri(EVALUATION_FILE)
    where = f"{uri}: not what evaluate writes now, evaluate again"
    try:
        return validated(Results, json.loads(store.get(EVALUATION_FILE)), lambda _: where)
    except FileNotFoundError:
        raise UserError(f"{uri}: no such file") from None
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def measure_slice(
    test: TestSet, column: str, name: str, mask_N: Mask, seed: int, resamples: int
) -> Slice:
    """The figures of one slice; its resampling is drawn by the seed and the slice's name."""
    part = test.scored(mask_N)
    draws = generator(seed, "bootstrap", f"{column}/{name}")
    measured = evaluate_with_intervals(part, draws, test.threshold, resamples)
    # Of one class most figures have no value: those that have one lead.
    figures = dict(sorted(measured.items(), key=lambda pair: pair[1].value is None))
    return Slice(
        column=column,
        name=name,
        num_real=part.num_real,
        num_synthetic=part.num_synthetic,
        figures={figure: Figure.of(measure) for figure, measure in figures.items()},
    )


def runs_against(test: TestSet, mask_N: Mask, auc: Figure) -> bool:
    """Whether scores are lower for synthetics than for reals, by more than chance."""
    if auc.value is None:
        return False
    if auc.high is not None:
        return auc.high < 0.5
    return Direction.of(test.logits_N[mask_N], test.codes["origin"][mask_N]).against


def measure_mean(test: TestSet, parts: Sequence[Part], seed: int, resamples: int) -> Slice:
    """The unweighted mean of every figure over slices.

    The interval of the mean resamples all slices together: reals that they share are one draw.
    """
    names = {part[1]: test.scored(part[2], grouped=True) for part in parts}
    draws = generator(seed, "bootstrap", "mean")
    means = macro_with_intervals(names, draws, test.threshold, resamples)
    chosen = np.any([mask for _, _, mask in parts], axis=0)
    real = test.codes["origin"][chosen] == 0
    return Slice(
        column="",
        name=MEAN,
        num_real=int(real.sum()),
        num_synthetic=int((~real).sum()),
        figures={figure: Figure.of(measure) for figure, measure in means.items()},
    )


def worst_slices(measured: Sequence[Slice]) -> dict[str, Worst]:
    """Figure → the slice in which it is lowest (highest, where lower is better)."""
    found = {}
    for figure in measured[0].figures if measured else ():
        slices = {part.name: part.figures[figure].measure() for part in measured}
        one = macro(slices, lower_is_better=figure in LOWER_IS_BETTER)
        if one.worst_slice:
            found[figure] = Worst(name=one.worst_slice, figure=Figure.of(one.worst))
    return found
