"""What predict writes: the score table, the table for people, the gallery; rows stay on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayapp.dataset import manifest, scores
from rayapp.dataset.inputs.listed_inputs import Inputs
from rayapp.dataset.labels import LabelScheme
from rayapp.models.basis import error_rates
from rayapp.models.detector_spec import Preprocessing
from rayapp.models.verdicts import Judge
from rayapp.predict import gallery
from rayapp.predict.csv_sheet import CSV_FILE, Sheet
from rayapp.predict.gallery_selection import GallerySelection
from rayapp.run.commands import command
from rayapp.storage.disk import scratch_file
from rayapp.storage.store import Store

if TYPE_CHECKING:
    from rayapp.predict.day_counts import DayCounts

_MAX_NAMED = 20
_LOOK_FIRST = 5
_TAKEN = {"ms": pa.float32(), "peak_mb": pa.float32()}


def work_schema(scheme: LabelScheme | None) -> pa.Schema:
    """Columns of the rows that workers give: a score table's, and what each took."""
    table = scores.schema(scheme)
    return pa.schema([*table, *_TAKEN.items()], metadata=table.metadata)


@dataclass
class Tally:
    """Counts, times and the first failures of the rows that went by.

    An image that failed under several variants is named once; `unnamed` counts the rows whose
    image is not named.
    """

    rows: int = 0
    failed: int = 0
    unnamed: int = 0
    declared: Counter[str] = field(default_factory=Counter)
    look_at_first: list[str] = field(default_factory=list)
    ms: float = 0.0
    peak_mb: float = 0.0
    _named: dict[str, int] = field(default_factory=dict)  # and the number of its row

    def add(self, table: pa.Table) -> None:
        """Look at rows that were worked on."""
        bad = table.filter(pc.not_equal(table["status"], manifest.STATUS_OK))
        # Rows that come in any order bring their number.
        numbers = range(self.rows, self.rows + bad.num_rows)
        if "row" in bad.column_names:
            numbers = bad["row"].to_pylist()
        for number, path, error in zip(
            numbers, bad["path"].to_pylist(), bad["error"].to_pylist(), strict=True
        ):
            self._name(f"{path}: {error}", number)
        self.rows += table.num_rows
        self.failed += bad.num_rows
        if "declared" in table.column_names:
            self.declared.update(table["declared"].drop_null().to_pylist())
        for name in _TAKEN.keys() & set(table.column_names):
            values = table[name].drop_null().to_numpy()
            if name == "ms":
                self.ms += float(values.sum(dtype=np.float64))
            else:
                self.peak_mb = max(self.peak_mb, float(values.max(initial=0.0)))

    def merge(self, other: Tally) -> None:
        """As if what the other one saw had come by here."""
        self.rows += other.rows
        self.failed += other.failed
        self.unnamed += other.unnamed
        self.declared.update(other.declared)
        self.ms += other.ms
        self.peak_mb = max(self.peak_mb, other.peak_mb)
        for failure, number in other._named.items():
            self._name(failure, number)

    @property
    def failures(self) -> list[str]:
        """The first that failed, in the order of the rows."""
        return sorted(self._named, key=self._named.__getitem__)

    def _name(self, failure: str, number: int) -> None:
        if failure in self._named:
            self._named[failure] = min(number, self._named[failure])
            return
        self._named[failure] = number
        if len(self._named) > _MAX_NAMED:
            del self._named[max(self._named, key=self._named.__getitem__)]
            self.unnamed += 1

    @property
    def counts(self) -> dict[str, int]:
        """As run.json has them."""
        return {"in": self.rows, "scored": self.rows - self.failed, "failed": self.failed}


@dataclass(frozen=True)
class Results:
    """Writer of a run's results, in one pass over the rows.

    Args:
        store: the run's output.
        inputs: where the images are.
        judge: what a logit means.
        view: how the detector sees images; None: whole.
        perturbation: hash of the perturbation under which images were disturbed, '' for none.
        most: images of the gallery.
        kept: columns of the set's own that go along.
        counts: of the images by day; None: they are no traffic.
        part_names: of a fusion's detectors.
    """

    store: Store
    inputs: Inputs
    judge: Judge
    view: Preprocessing | None
    perturbation: str
    most: int
    kept: Sequence[pa.Field] = ()
    counts: DayCounts | None = None
    part_names: Sequence[str] = ()

    def write(self, chunks: Iterable[pa.Table]) -> tuple[Tally, GallerySelection]:
        """Write scores.parquet and scores.csv, then the counts."""
        tally, selection = Tally(), GallerySelection(self.judge, self.most)
        wanted = scores.schema(self.inputs.scheme)
        for one in self.kept:
            wanted = wanted if one.name in wanted.names else wanted.append(one)
        wanted = scores.with_root(wanted, self.inputs.root.root, self.perturbation)

        with scratch_file() as unsorted, scratch_file() as lines:
            sheet = Sheet(self.judge, unsorted, bool(self.perturbation))

            def gone_by() -> Iterator[pa.Table]:
                for given in chunks:
                    chunk = manifest.filled(given, wanted)  # stored scores may be older
                    tally.add(chunk)
                    selection.add(chunk)
                    sheet.add(chunk)
                    if self.counts:
                        self.counts.add(chunk)
                    yield chunk.select(wanted.names)

            manifest.write_chunks(self.store, scores.SCORES_FILE, gone_by(), wanted)
            lines.writelines(sheet.lines())
            self.store.put(CSV_FILE, lines)
            tally.look_at_first = sheet.first(_LOOK_FIRST)
        if self.counts:
            self.counts.write(self.store)
        return tally, selection

    def show(self, tally: Tally, selection: GallerySelection, facts: dict[str, Any]) -> None:
        """Write the gallery."""
        self.show_from(self.inputs.read, tally, selection, facts)

    def show_from(
        self,
        read: Callable[[str], bytes],
        tally: Tally,
        selection: GallerySelection,
        facts: dict[str, Any],
    ) -> None:
        """Write the gallery, of images whose bytes `read` gives by path."""
        if self.most:
            missed = gallery.Missed(tally.failures, tally.failed, tally.unnamed)
            gallerist = gallery.Gallerist(
                read,
                self.view,
                error_rates(self.judge),
                self.inputs.address,
                "" if self.judge.classes else self._next_commands(str(facts["detector"])),
                self.judge,
                self.part_names,
            )
            page = gallerist.page(selection, facts, missed)
            self.store.put(gallery.GALLERY_FILE, page.html().encode())

    def _next_commands(self, detector: str) -> str:
        """What reads the list of marks that the gallery saves."""
        given = {"detector": detector, "scores": self.store.root}
        reviewed = {"annotations": "reviewed.csv", "scheme": "reviewed"}
        return "\n".join(
            command(job, **given, **marks, output=f"runs/{job}-reviewed")
            for job, marks in (("calibrate", {"reviews": "marks.csv"}), ("evaluate", reviewed))
        )
