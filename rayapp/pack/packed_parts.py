"""What was packed of a large set, part by part."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow.compute as pc

from rayapp.dataset.tiles import INDEX_FILE
from rayapp.run.dataset_folder import Part, read_part
from rayapp.storage.store import Store

FOLDER = INDEX_FILE.removesuffix(".parquet")


@dataclass
class PackedParts:
    """Counts what parts of the index hold."""

    parts: list[Part] = field(default_factory=list)
    tile_bytes: int = 0

    def add(self, store: Store, keys: Iterable[str]) -> "PackedParts":
        """Look at parts."""
        for key in keys:
            table, part = read_part(store, key)
            self.parts.append(part)
            self.tile_bytes += pc.sum(pc.list_flatten(table["tile_bytes"])).as_py() or 0
        return self

    def merge(self, other: "PackedParts") -> None:
        """As if the other's parts had come by here."""
        self.parts += other.parts
        self.tile_bytes += other.tile_bytes
