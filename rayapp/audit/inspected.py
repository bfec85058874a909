"""What inspected images tell, counted while their rows go by: in any order, and in parts."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayapp.dataset import manifest
from rayapp.dataset.declared.declaration import CAMERA, OF_AI
from rayapp.run.dataset_folder import Part, read_part
from rayapp.run.first_lines import FirstLines
from rayapp.storage.store import Store

NAMED = 50  # files that failed, on the page; the findings name fewer
REAL, SYNTHETIC, UNLABELLED = "real", "synthetic", "unlabelled"
# Origin, container and bit depth of files; and sums over them.
Kind = tuple[str, str | None, int | None]
_SUMMED = ("bytes", "width", "height")


def _lines() -> FirstLines:
    return FirstLines(NAMED)


@dataclass
class Inspected:
    """Counts of the images, and the first of each that wants to be named.

    Attributes:
        rows: images.
        missing: those whose file is not there.
        broken: those whose file does not decode.
        against: real ones that declare that AI made or edited them.
        camera: synthetic ones that declare a camera.
        declared: what files declare, by origin.
        kinds: number, and sums of bytes, width and height, of those that decode.
        parts: the files that were looked at.
    """

    rows: int = 0
    missing: FirstLines = field(default_factory=_lines)
    broken: FirstLines = field(default_factory=_lines)
    against: FirstLines = field(default_factory=_lines)
    camera: FirstLines = field(default_factory=_lines)
    declared: Counter[tuple[str, str]] = field(default_factory=Counter)
    kinds: dict[Kind, np.ndarray] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Images that were not decoded."""
        return self.missing.count + self.broken.count

    def add(self, store: Store, keys: Iterable[str]) -> "Inspected":
        """Look at parts."""
        for key in keys:
            table, part = read_part(store, key)
            self.see(table)
            self.parts.append(part)
        return self

    def see(self, table: pa.Table) -> "Inspected":
        """Look at rows of `AuditRows`, with or without labels of origin."""
        numbers = np.arange(self.rows, self.rows + table.num_rows)
        if "row" in table.column_names:  # rows that come in any order bring their number
            numbers = table["row"].to_numpy()
        columns = {n: table[n].to_pylist() for n in ("path", "status", "error", "sha256")}
        columns["origin"] = origins(table)
        columns["declared"] = table["declared"].to_pylist()
        rows = (
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        )
        for number, row in zip(numbers.tolist(), rows, strict=True):
            self._see_one(number, row)
        self._see_kinds(table, columns["origin"])
        self.rows += table.num_rows
        return self

    def _see_one(self, number: int, row: dict[str, Any]) -> None:
        if row["status"] != manifest.STATUS_OK:
            kind = self.missing if row["sha256"] is None else self.broken
            kind.add(number, f"{row['path']}: {row['error']}")
            return
        self.declared[row["origin"], row["declared"]] += 1
        if row["origin"] == REAL and row["declared"] in OF_AI:
            self.against.add(number, row["path"])
        elif row["origin"] == SYNTHETIC and row["declared"] == CAMERA:
            self.camera.add(number, row["path"])

    def _see_kinds(self, table: pa.Table, known: list[str]) -> None:
        table = table.select(["container", "bit_depth", *_SUMMED, "status"])
        table = table.append_column("of", pa.array(known, pa.string()))
        found = (
            table.filter(pc.equal(table["status"], manifest.STATUS_OK))
            .group_by(["of", "container", "bit_depth"])
            .aggregate([([], "count_all"), *((name, "sum") for name in _SUMMED)])
        )
        for row in found.to_pylist():
            sums = [row["count_all"], *(row[f"{name}_sum"] or 0 for name in _SUMMED)]
            self._sum((row["of"], row["container"], row["bit_depth"]), np.array(sums, np.int64))

    def _sum(self, kind: Kind, sums: np.ndarray) -> None:
        self.kinds[kind] = self.kinds.get(kind, 0) + sums

    def merge(self, other: "Inspected") -> None:
        """As if the rows of the other one had come by here."""
        self.rows += other.rows
        for name in ("missing", "broken", "against", "camera"):
            getattr(self, name).merge(getattr(other, name))
        self.declared.update(other.declared)
        for kind, sums in other.kinds.items():
            self._sum(kind, sums)
        self.parts += other.parts


def origins(table: pa.Table) -> list[str]:
    """Of each row whether it is labelled real, synthetic or not at all; origin 0 is real."""
    if "origin" not in table.column_names or not pa.types.is_integer(table["origin"].type):
        return [UNLABELLED] * table.num_rows
    said = {None: UNLABELLED, 0: REAL}
    return [said.get(one, SYNTHETIC) for one in table["origin"].to_pylist()]
