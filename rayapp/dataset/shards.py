"""A large set as the files that hold its rows: tables of images or paths, and tars.

Nothing here is as long as the set: a shard is a file, a piece some megabytes of it that one task
reads. The rows themselves are read by workers; see `shard_rows`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

if TYPE_CHECKING:
    from rayapp.dataset.labels import LabelScheme
    from rayapp.storage.store import Stat, Store

SHARD_ROWS = (
    1 << 32
)  # more than a file has: what parts the numbers of one shard's rows from others'
_PIECE_BYTES = 64 << 20
_MOST_PIECES = 10_000

# Numbers of row groups of each Parquet file, and the rows and bytes of each.
Groups = tuple[tuple[int, int], ...]
Kind = Literal["images", "paths", "urls", "tar"]


@dataclass(frozen=True)
class Shard:
    """A file with rows.

    Attributes:
        kind: what its rows hold: images, paths or addresses of them; or a tar with images.
        file: the file, under the set's `holder`.
        column: of a table, the one with images, paths or addresses.
        read: of a table, the columns that are read: that one, and what goes along.
        groups: of a table, rows and bytes of each of its row groups, of the columns that are read.
    """

    kind: Kind
    file: Stat
    column: str = ""
    read: tuple[str, ...] = ()
    groups: Groups = ()

    @property
    def num_rows(self) -> int | None:
        """Rows, as far as they are known without reading the file."""
        return None if self.kind == "tar" else sum(rows for rows, _ in self.groups)

    @property
    def num_bytes(self) -> int:
        """What reading it takes."""
        return self.file.size if self.kind == "tar" else sum(size for _, size in self.groups)


@dataclass(frozen=True)
class Piece:
    """Some row groups of a table, or a whole tar; `first` is the number of its first row."""

    at: int  # number of the shard
    shard: Shard
    first: int
    groups: range

    @property
    def num_rows(self) -> int | None:
        """As of the shard."""
        if self.shard.kind == "tar":
            return None
        return sum(self.shard.groups[group][0] for group in self.groups)


@dataclass(frozen=True)
class ShardSet:
    """A set in shards.

    Attributes:
        root: where the rows' paths start.
        holder: where the shards lie.
        shards: in the order of their names.
        kept: the set's own columns that go along with each row, as labels do.
        scheme: of its labels, where they are under one.
        left_out: what was seen and holds no image, by kind.
    """

    root: Store
    holder: Store
    shards: Sequence[Shard]
    kept: pa.Schema = field(default_factory=lambda: pa.schema([]))
    scheme: LabelScheme | None = None
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def num_rows(self) -> int | None:
        """Rows, where all shards tell."""
        known = [shard.num_rows for shard in self.shards]
        return None if None in known else sum(filter(None, known))

    @property
    def num_bytes(self) -> int:
        """What reading it takes."""
        return sum(shard.num_bytes for shard in self.shards)

    def pieces(self) -> Iterator[Piece]:
        """Every row in one piece, each of at most some megabytes where a shard can be cut."""
        most = max(_PIECE_BYTES, self.num_bytes // _MOST_PIECES)
        for at, shard in enumerate(self.shards):
            if shard.kind == "tar":
                yield Piece(at, shard, at * SHARD_ROWS, range(0))
                continue
            first = start = held_rows = held_bytes = 0
            for group, (rows, size) in enumerate(shard.groups):
                if held_rows and held_bytes + size > most:
                    yield Piece(at, shard, at * SHARD_ROWS + first, range(start, group))
                    first, start, held_rows, held_bytes = first + held_rows, group, 0, 0
                held_rows, held_bytes = held_rows + rows, held_bytes + size
            if held_rows:
                yield Piece(at, shard, at * SHARD_ROWS + first, range(start, len(shard.groups)))
