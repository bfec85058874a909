"""What an evaluation holds, as JSON: figures with intervals, by slice, and where they are from."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field
from scipy import special

from rayapp.labels import LabelScheme
from rayapp.metrics.bootstrap import evaluate_with_intervals
from rayapp.metrics.measure import Measure
from rayapp.metrics.scored import Scored
from rayapp.models.calibrators import Calibration
from rayapp.settings import Settings
from rayapp.transforms.draws import generator

EVALUATION_FILE = "metrics.json"


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
    """The figures of one part of the test set."""

    column: str = Field(description="label column that the slice is cut by; empty: the whole")
    name: str = Field(description="the slice's name")
    num_real: int = Field(description="real images")
    num_synthetic: int = Field(description="synthetic images")
    figures: dict[str, Figure] = Field(description="figure by name")


class Evaluation(Settings):
    """One detector on one test set."""

    test_set: str = Field(description="name of the test set")
    detector: str = Field(description="URI of the detector")
    scores: str = Field(description="URI of the scores")
    annotations: str = Field(description="URI of the list of test images")
    scheme: str = Field(description="label scheme of the list")
    held_out: tuple[str, ...] = Field(description="generators never trained on")
    detector_hash: str = Field(description="hash of weights, architecture, preprocessing")
    calibration_hash: str | None = Field(description="hash of the calibration; none: uncalibrated")
    threshold: float = Field(description="probability from which on: synthetic")
    band: tuple[float, float] | None = Field(description="unsure between these probabilities")
    resampled: str = Field(description="what the intervals resample")
    num_groups: int = Field(description="how many of them there are")
    slices: list[Slice] = Field(description="the whole first, then by column")

    def slice(self, column: str, name: str) -> Slice | None:
        """One slice, or None where the set has none such."""
        return next((s for s in self.slices if (s.column, s.name) == (column, name)), None)

    @property
    def whole(self) -> Slice:
        """The whole test set."""
        return self.slices[0]


Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class TestSet:
    """Scored test images: label codes by column, logits, probabilities, and what is resampled."""

    codes: dict[str, NDArray[np.int64]]
    logits_N: NDArray[np.float64]
    probabilities_N: NDArray[np.float64]
    groups_N: NDArray[np.str_] | None
    threshold: float

    __test__ = False  # no test class, whatever its name

    @classmethod
    def of(cls, table: pa.Table, scheme: LabelScheme, calibration: Calibration | None) -> "TestSet":
        """From a table of scores with label columns; probability by the calibration."""
        logits = table["logit"].to_numpy().astype(np.float64)
        probabilities = calibration.apply(logits) if calibration else special.expit(logits)
        codes = {c: table[c].to_numpy().astype(np.int64) for c in scheme.columns}
        groups = None
        if "group" in table.column_names and not table["group"].null_count:
            groups = np.asarray(table["group"].to_pylist(), dtype=np.str_)
        threshold = calibration.threshold if calibration else 0.5
        return cls(codes, logits, probabilities, groups, threshold)

    @property
    def num_groups(self) -> int:
        """How many photographs (images, where nothing groups them) there are."""
        return len(self.logits_N) if self.groups_N is None else len(np.unique(self.groups_N))

    def slices(
        self, scheme: LabelScheme, held_out: tuple[str, ...] = ()
    ) -> list[tuple[str, str, Mask]]:
        """Every slice as (column, name, mask over images), the whole first.

        A slice by generator or model holds its synthetic images and all real ones; a slice by
        any other column its own images of both classes. `held_out` names generators never
        trained on: with them, `seen` and `held-out` are slices of the column `training`.
        """
        real = self.codes["origin"] == 0
        found = [("", "all", np.ones(len(real), dtype=bool))]
        if held_out:
            names = scheme.names("generator")
            unseen_codes = [code for code, name in names.items() if name in held_out]
            unseen = ~real & np.isin(self.codes["generator"], unseen_codes)
            found += [("training", "seen", ~unseen), ("training", "held-out", real | unseen)]
        for column, codes_N in self.codes.items():
            if column == "origin":
                continue
            by_source = column in {"generator", "model"}
            for code, name in scheme.names(column).items():
                mine = codes_N == code
                if (mine & ~real).any() if by_source else mine.any():
                    found.append((column, name, mine | real if by_source else mine))
        return _without_repeats(found)

    def scored(self, mask_N: Mask) -> Scored:
        """The images of a slice, for the metrics."""
        groups = None if self.groups_N is None else self.groups_N[mask_N]
        return Scored.of(
            self.codes["origin"][mask_N],
            self.logits_N[mask_N],
            self.probabilities_N[mask_N],
            groups,
        )


def _without_repeats(slices: list[tuple[str, str, Mask]]) -> list[tuple[str, str, Mask]]:
    """Where a family has one model, both columns cut the same slice: it is measured once."""
    seen: set[tuple[str, bytes]] = set()
    kept = []
    for column, name, mask in slices:
        key = (name, mask.tobytes())
        if key not in seen:
            seen.add(key)
            kept.append((column, name, mask))
    return kept


def measure_slice(
    test: TestSet, column: str, name: str, mask_N: Mask, seed: int, resamples: int
) -> Slice:
    """The figures of one slice; its resampling is drawn by the seed and the slice's name."""
    part = test.scored(mask_N)
    draws = generator(seed, "bootstrap", f"{column}/{name}")
    figures = evaluate_with_intervals(part, draws, test.threshold, resamples)
    return Slice(
        column=column,
        name=name,
        num_real=part.num_real,
        num_synthetic=part.num_synthetic,
        figures={figure: Figure.of(measured) for figure, measured in figures.items()},
    )
