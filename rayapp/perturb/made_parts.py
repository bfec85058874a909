"""What was made of a large set, part by part: of a row an image, rows of the manifest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from rayapp.dataset.labels import LabelScheme
from rayapp.dataset.shard_rows import part_schema
from rayapp.perturb.manifest_rows import Counts, expand, manifest_schema
from rayapp.run.dataset_folder import Part, read_part, write_part
from rayapp.storage.store import Store

ROWS_FOLDER, FOLDER = "rows", "manifest"  # a row an image; then one an image × variant


@dataclass
class MadeParts:
    """Writes the manifest's parts, and counts what was made; done twice, it is the same.

    Args:
        scheme: of the set's labels, if they are under one.
        kept: the set's own columns.
        variants: of the perturbation.
    """

    scheme: LabelScheme | None
    kept: pa.Schema
    variants: Sequence[str]
    parts: list[Part] = field(default_factory=list)
    counts: Counts = field(init=False)

    def __post_init__(self) -> None:
        self.counts = Counts(self.variants)

    def add(self, store: Store, keys: Iterable[str]) -> "MadeParts":
        """Take parts of `ROWS_FOLDER`."""
        for key in keys:
            rows, part = read_part(store, key)
            whole = self.rows_of(rows)
            self.counts.add(whole)
            self.parts.append(write_part(store, f"{FOLDER}/{part.file}", whole))
        return self

    def rows_of(self, rows: pa.Table) -> pa.Table:
        """Rows of the manifest, of some of `ROWS_FOLDER`."""
        wanted = part_schema(manifest_schema(self.scheme), self.kept)
        return expand(rows, wanted, self.variants)

    def merge(self, other: "MadeParts") -> None:
        """As if the other's parts had come by here."""
        self.parts += other.parts
        self.counts.merge(other.counts)
