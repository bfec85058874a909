"""Scored test images, and the slices that they are cut into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import special

from rayapp.metrics.scored import Scored
from rayapp.models.verdicts import decides_at

if TYPE_CHECKING:
    from rayapp.dataset.labels import LabelScheme
    from rayapp.models.calibration.calibrators import Calibration

Mask = NDArray[np.bool_]
Part = tuple[str, str, Mask]


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
    def of(cls, table: pa.Table, scheme: LabelScheme, calibration: Calibration | None) -> TestSet:
        """From a table of scores with label columns; probability by the calibration."""
        logits = table["logit"].to_numpy().astype(np.float64)
        probabilities = calibration.apply(logits) if calibration else special.expit(logits)
        codes = {c: table[c].to_numpy().astype(np.int64) for c in scheme.columns}
        groups = None
        if "group" in table.column_names and not table["group"].null_count:
            groups = np.asarray(table["group"].to_pylist(), dtype=np.str_)
        return cls(codes, logits, probabilities, groups, decides_at(calibration))

    @property
    def num_groups(self) -> int:
        """How many photographs (images, where nothing groups them) there are."""
        return len(self.logits_N) if self.groups_N is None else len(np.unique(self.groups_N))

    def slices(self, scheme: LabelScheme, held_out: tuple[str, ...] = ()) -> list[Part]:
        """Every slice as (column, name, mask over images), the whole first.

        A slice by generator or model holds its synthetic images and all real ones; a slice by
        any other column its own images of both classes. `held_out` names generators or models
        never trained on: with them, `seen` and `held-out` are slices of the column `training`.
        """
        real = self.codes["origin"] == 0
        found = [("", "all", np.ones(len(real), dtype=bool))]
        if held_out:
            unseen = ~real & self._named(scheme, held_out)
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

    def _named(self, scheme: LabelScheme, wanted: tuple[str, ...]) -> Mask:
        """Images whose generator or model has one of these names."""
        found = np.zeros(len(self.logits_N), dtype=bool)
        for column in {"generator", "model"} & self.codes.keys():
            names = scheme.names(column)
            found |= np.isin(self.codes[column], [c for c, name in names.items() if name in wanted])
        return found

    def scored(self, mask_N: Mask, *, grouped: bool = False) -> Scored:
        """The images of a slice, for the metrics; `grouped`: each image at least its own group."""
        groups = None if self.groups_N is None else self.groups_N[mask_N]
        if groups is None and grouped:
            groups = np.flatnonzero(mask_N).astype(np.str_)
        return Scored.of(
            self.codes["origin"][mask_N],
            self.logits_N[mask_N],
            self.probabilities_N[mask_N],
            groups,
        )


def _without_repeats(slices: list[Part]) -> list[Part]:
    """Where a family has one model, both columns cut the same slice: it is measured once."""
    seen: set[tuple[str, bytes]] = set()
    kept = []
    for column, name, mask in slices:
        key = (name, mask.tobytes())
        if key not in seen:
            seen.add(key)
            kept.append((column, name, mask))
    return kept
