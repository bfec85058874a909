"""What files declare, in lines for people and as a table."""

import csv
import dataclasses
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rayapp.config.paths import shown
from rayapp.dataset.declared import Declared
from rayapp.dataset.declared.declaration import BROKEN, KINDS, VERIFIED

_WIDTH = max(map(len, KINDS)) + 2
COLUMNS = ("path", "declared", "declared_by", "declared_detail", "error")


@dataclass(frozen=True)
class FileDeclared:
    """One file: its path as given, and what it declares, or why it can't be read."""

    path: str
    declared: Declared
    error: str = ""

    def lines(self) -> Iterator[str]:
        """Kind and path; below them what says so, and its detail."""
        path = shown(self.path)
        if self.error:
            yield f"{'error':<{_WIDTH}}{path}: {self.error}"
            return
        yield f"{self.declared.kind:<{_WIDTH}}{path}"
        if self.declared.first:
            yield f"{'':<{_WIDTH}}{self.declared.by}"
        if self.declared.first or self.declared.notes:
            yield f"{'':<{_WIDTH}}{self.declared.detail}"

    def row(self) -> dict[str, str]:
        """As a table has it."""
        return {"path": self.path, **self.declared.columns(), "error": self.error}


@dataclass
class Totals:
    """How many files declare what."""

    kinds: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    num_failed: int = 0

    def add(self, one: FileDeclared) -> None:
        """Count a file."""
        if one.error:
            self.num_failed += 1
            return
        self.kinds[one.declared.kind] += 1
        states = {entry.state for entry in one.declared.declarations}
        self.states.update(states & {VERIFIED, BROKEN})

    def lines(self) -> Iterator[str]:
        """For people."""
        total = sum(self.kinds.values())
        counts = [f"{self.kinds[kind]:,} {kind}" for kind in KINDS if self.kinds[kind]]
        yield f"{total:,} file{'s' * (total != 1)}: {', '.join(counts) or 'no image'}"
        signed = [
            f"{self.states[state]:,} {what}"
            for state, what in ((VERIFIED, "verified"), (BROKEN, "with a broken signature"))
            if self.states[state]
        ]
        if signed:
            yield f"signatures: {', '.join(signed)}"
        if self.num_failed:
            yield f"{self.num_failed:,} could not be read"
        if self.kinds["nothing"]:
            yield "nothing declared is no sign of a real image: most services remove all of it"


def encoded(files: Sequence[FileDeclared], suffix: str) -> bytes:
    """The table as CSV, Parquet or JSON; JSON has every declaration of each file."""
    rows = [one.row() for one in files]
    if suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = io.BytesIO()
        pq.write_table(
            pa.Table.from_pylist(rows, pa.schema([(c, pa.string()) for c in COLUMNS])), sink
        )
        return sink.getvalue()
    if suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_no_formulas(row) for row in rows)
        return text.getvalue().encode("utf-8-sig")  # by which Excel takes it for UTF-8
    whole = [
        {**row, "declarations": [dataclasses.asdict(one) for one in file.declared.declarations]}
        for row, file in zip(rows, files, strict=True)
    ]
    return (json.dumps(whole, ensure_ascii=False, indent=1) + "\n").encode()


def _no_formulas(row: dict[str, str]) -> dict[str, str]:
    """What a spreadsheet would run, a file's own words among it, begins with `./`."""
    return {
        name: f"./{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
        for name, text in row.items()
    }
