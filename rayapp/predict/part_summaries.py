"""What is told of a large result, gathered part by part: by workers, then of their summaries."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from rayapp.dataset import scores
from rayapp.dataset.labels import LabelScheme
from rayapp.metrics.traffic import Traffic
from rayapp.models.verdicts import REAL, SYNTHETIC, UNSURE, Judge
from rayapp.predict.csv_sheet import look_line
from rayapp.predict.gallery_selection import GallerySelection
from rayapp.predict.score_tables import Tally, work_schema
from rayapp.run.dataset_folder import Part, read_part
from rayapp.storage.store import Store

_LOOK_FIRST = 5
_PLACES: dict[str, pa.DataType] = {
    "container": pa.string(),
    "column": pa.string(),
    "offset": pa.int64(),
    "length": pa.int64(),
    "url": pa.string(),
}


def facts_of_parts(scheme: LabelScheme | None, root: str, perturbation: str) -> pa.Schema:
    """Columns of a part: a score's, and where its image lies."""
    own = work_schema(scheme)
    fields = [*own, *(one for one in pa.schema(_PLACES) if one.name not in own.names)]
    return scores.with_root(pa.schema(fields, metadata=own.metadata), root, perturbation)


@dataclass
class Summary:
    """Of some parts: what each is, counts and failures, and the images that tell most."""

    selection: GallerySelection
    parts: list[Part] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    traffic: Traffic = field(default_factory=Traffic)

    @classmethod
    def of(cls, judge: Judge, most: int) -> "Summary":
        """Of no part yet; at least as many images are kept as are named to look at."""
        return cls(GallerySelection(judge, max(most, _LOOK_FIRST)))

    def add(self, store: Store, keys: Iterable[str]) -> "Summary":
        """Look at parts."""
        for key in keys:
            table, part = read_part(store, key)
            self.parts.append(part)
            self.tally.add(table)
            self.selection.add(table)
            self.traffic.add_table(table, self.selection.judge)
        return self

    def merge(self, other: "Summary") -> None:
        """As if what the other one saw had come by here."""
        self.parts += other.parts
        self.tally.merge(other.tally)
        self.selection.merge(other.selection)
        self.traffic.merge(other.traffic)

    def look_at_first(self) -> list[str]:
        """As `Sheet.first`: conflicts, the likeliest synthetic, then those unsure."""
        shown = [one for several in self.selection.parts().values() for one in several]
        order = {SYNTHETIC: 0, UNSURE: 1}
        wanted = [
            one
            for one in shown
            if (one["word"] in order or one["conflict"]) and REAL in self.selection.judge.words
        ]
        wanted.sort(key=lambda one: (not one["conflict"], order.get(one["word"], 2), -one["p"]))
        lines = dict.fromkeys(
            look_line(one["path"], one["p"], one["declared"] if one["conflict"] else "")
            for one in wanted
        )
        return list(lines)[:_LOOK_FIRST]

    def places(self) -> dict[str, dict[str, object]]:
        """Where each selected image lies, by its path."""
        return {
            one["path"]: one["place"]
            for several in self.selection.parts().values()
            for one in several
        }
