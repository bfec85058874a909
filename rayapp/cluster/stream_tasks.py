"""What workers do of a stream: read tasks, the actors that work, the count that both tell."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from rayapp.config.errors import UserError
from rayapp.config.memory import keep_freed_memory
from rayapp.dataset import manifest, shard_rows
from rayapp.dataset.shards import Piece, ShardSet
from rayapp.run.concurrency import batches
from rayapp.run.dataset_folder import DatasetFolder
from rayapp.run.row_work import Row, RowWork, format_error

_KILLED = "the worker's process died on it (crashed, or out of memory)"


@ray.remote(num_cpus=0)
class Counts:
    """What tasks tell while they work: how many rows each piece had, how many are done."""

    def __init__(self) -> None:
        self._read: dict[tuple[int, int], int] = {}
        self._done = self._failed = 0
        self._broken: tuple[str, str] | None = None

    def read(self, piece: tuple[int, int], rows: int) -> None:
        """A piece was read to its end."""
        self._read[piece] = rows

    def add(self, done: int, failed: int) -> None:
        """Rows were worked on."""
        self._done += done
        self._failed += failed

    def broke(self, kind: str, why: str) -> None:
        """The work can't start."""
        self._broken = (kind, why)

    def is_broken(self) -> bool:
        """Whether it can't."""
        return self._broken is not None

    def state(self) -> tuple[int, int, tuple[str, str] | None]:
        """Rows done and failed; why the work can't start."""
        return self._done, self._failed, self._broken

    def pieces(self) -> dict[tuple[int, int], int]:
        """Rows of the pieces that were read to their end."""
        return self._read


class Pieces(Datasource):  # type: ignore[misc]
    """The pieces of a set as read tasks; what is done is not read."""

    def __init__(self, shards: ShardSet, folder: DatasetFolder, counts: Any) -> None:
        super().__init__()
        self._few = replace(shards, shards=())
        self._bytes = shards.num_bytes
        self._counts = counts
        self.left = [
            (piece, done)
            for piece in shards.pieces()
            if not _is_done(piece, done := folder.done.of(piece.at))
        ]

    def estimate_inmemory_data_size(self) -> int | None:
        """Bytes of what is read, in all."""
        return self._bytes

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """One a piece, whatever the parallelism."""
        return [
            ReadTask(
                functools.partial(_read, self._few, piece, np.packbits(done), self._counts),
                BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None),
                schema=shard_rows.schema(self._few),
            )
            for piece, done in self.left
        ]


def _is_done(piece: Piece, done: np.ndarray) -> bool:
    if piece.num_rows is None:
        return False
    start = piece.first % (1 << 32)
    return bool(np.count_nonzero(done[start : start + piece.num_rows]) == piece.num_rows)


def _read(shards: ShardSet, piece: Piece, packed: np.ndarray, counts: Any) -> Iterator[pa.Table]:
    rows = 0
    if ray.get(counts.is_broken.remote()):
        return
    for table in shard_rows.read(shards, piece, np.unpackbits(packed).astype(np.bool_)):
        rows += table.num_rows
        yield table
    ray.get(counts.read.remote((piece.at, piece.first), rows))


class Worker:
    """The actor that Ray Data runs: one instance of the work, kept across blocks."""

    def __init__(
        self, work: RowWork | None, schema: pa.Schema, batch_size: int, counts: Any
    ) -> None:
        self._work, self._schema, self._batch_size = work, schema, batch_size
        self._counts = counts
        self._is_broken = False
        keep_freed_memory()
        try:
            if work is not None:
                work.setup()
        except Exception as error:  # noqa: BLE001 - from an actor's start Ray brings no plain error
            kind = "wrong use" if isinstance(error, UserError) else "broken"
            ray.get(counts.broke.remote(kind, format_error(error)))
            self._is_broken = True

    def __call__(self, block: pa.Table) -> pa.Table:
        """Each row of a block, with what became of it."""
        results = [] if self._is_broken else list(self._results(block.to_pylist()))
        found = pa.Table.from_pylist(results, schema=self._schema)
        self._counts.add.remote(found.num_rows, manifest.count_failed(found))
        return found

    def _results(self, rows: list[Row]) -> Iterator[Row]:
        faults = [row for row in rows if row["fault"] or self._work is None]
        for row in faults:
            yield {**row, "status": manifest.STATUS_FAILED, "error": row["fault"] or _KILLED}
        if self._work is not None:
            sound = [row for row in rows if not row["fault"]]
            for done in batches(self._work, sound, self._batch_size):
                yield from done
