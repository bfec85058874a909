"""Finished rows of a job, kept as Parquet parts while it goes on and read back in id order.

What stays in memory is the ids and where their rows lie; the rows themselves are on disk or S3,
so that a job of millions of rows needs no more than its ids.
"""

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayapp.dataset import manifest
from rayapp.run.columns import check_columns
from rayapp.run.record import digest
from rayapp.run.resume import Verify, sound_rows
from rayapp.storage.store import Store

FOLDER = "parts"
_CHUNK_ROWS = 4096
_EVERY_S = 5.0
_MOST_ROWS = 8192  # at most: what a driver holds of rows at once
_OPEN_PARTS = 8  # rows come nearly in id order: those of a chunk lie in few parts


class Parts:
    """The rows of one job under a run's output; each id once, the row that counts."""

    def __init__(self, store: Store, name: str, schema: pa.Schema) -> None:
        """Empty; `resume` finds what earlier runs left."""
        self.schema = schema
        self.num_rows = 0
        self.num_failed = 0
        self._store = store
        self._folder = f"{FOLDER}/{name.replace(' ', '-')}/"
        self._keys: list[str] = []
        self._ids: list[pa.Array] = []
        self._places: list[np.ndarray] = []  # part and row of each id, int64 [rows, 2]
        self._open: OrderedDict[int, pa.Table] = OrderedDict()

    def resume(self, verify: Verify | None = None) -> None:
        """Take the rows that earlier runs did without failure and that `verify` gives back.

        Raises:
            UserError: they have other columns.
        """
        known = pa.array([], pa.string())
        for stat in list(self._store.list(self._folder)):
            table = self._read(stat.key)
            sound = sound_rows(table, verify)
            kept = pc.is_in(table["id"], value_set=sound["id"].combine_chunks())
            fresh = pc.invert(pc.is_in(table["id"], value_set=known))
            rows = pc.indices_nonzero(pc.and_(kept, fresh)).to_numpy()
            ids = table["id"].take(pa.array(rows)).combine_chunks()
            known = pa.concat_arrays([known, ids])
            self._count(stat.key, ids, rows, 0)

    def gather(self, blocks: Iterable[pa.Table]) -> None:
        """Write blocks as they come, as parts of some seconds each; the first at once."""
        fresh: list[pa.Table] = []
        due = time.monotonic()
        for block in blocks:
            fresh.append(block)
            if time.monotonic() >= due or sum(one.num_rows for one in fresh) >= _MOST_ROWS:
                self.write(fresh)
                fresh, due = [], time.monotonic() + _EVERY_S
        if fresh:
            self.write(fresh)

    def write(self, blocks: Sequence[pa.Table]) -> None:
        """Keep rows that are done, failed ones too; a part that two attempts write is one."""
        table = pa.concat_tables([block.cast(self.schema) for block in blocks]).combine_chunks()
        ids = table["id"].combine_chunks()
        # Named by what is in it; the ids are copied, for the blocks lie in Ray's shared memory.
        ids = pa.array(ids.to_pylist(), pa.string())
        key = f"{self._folder}{digest(*(n.encode() for n in sorted(ids.to_pylist())))[:24]}.parquet"
        manifest.write_table(self._store, key, table)
        self._count(key, ids, np.arange(len(ids)), manifest.count_failed(table))

    def _count(self, key: str, ids: pa.Array, rows: np.ndarray, failed: int) -> None:
        part = np.full(len(ids), len(self._keys), dtype=np.int64)
        self._keys.append(key)
        self._ids.append(ids)
        self._places.append(np.stack([part, rows.astype(np.int64)], axis=1))
        self.num_rows += len(ids)
        self.num_failed += failed

    def ids(self) -> pa.Array:
        """Every id, as kept."""
        return pa.concat_arrays([pa.array([], pa.string()), *self._ids])

    def without(self, rows: pa.Table) -> pa.Table:
        """Of `rows`, those whose ids are not kept yet."""
        return rows.filter(pc.invert(pc.is_in(rows["id"], value_set=self.ids())))

    def chunks(self) -> Iterator[pa.Table]:
        """All rows in id order, some thousands at a time."""
        if not self.num_rows:
            return
        order = pc.sort_indices(self.ids()).to_numpy()
        places = np.concatenate(self._places)[order]
        for at in range(0, len(places), _CHUNK_ROWS):
            yield self._gather(places[at : at + _CHUNK_ROWS])

    def table(self) -> pa.Table:
        """All rows in id order; for jobs whose rows fit in memory."""
        return pa.concat_tables([self.schema.empty_table(), *self.chunks()])

    def _gather(self, places: np.ndarray) -> pa.Table:
        taken, positions = [], []
        for part in np.unique(places[:, 0]):
            at = np.flatnonzero(places[:, 0] == part)
            taken.append(self._part(int(part)).take(pa.array(places[at, 1])))
            positions.append(at)
        back = np.argsort(np.concatenate(positions), kind="stable")
        return pa.concat_tables(taken).take(pa.array(back)).combine_chunks()

    def _read(self, key: str) -> pa.Table:
        table = manifest.read_table(self._store, key)
        folder = self._store.uri(self._folder.rstrip("/"))
        check_columns(table.schema, self.schema, self._store.uri(key), folder)
        return table.select(self.schema.names).cast(self.schema)

    def _part(self, number: int) -> pa.Table:
        if number not in self._open:
            self._open[number] = self._read(self._keys[number])
        self._open.move_to_end(number)
        while len(self._open) > _OPEN_PARTS:
            self._open.popitem(last=False)
        return self._open[number]


def drop_parts(store: Store) -> None:
    """Remove the parts, once the job's manifest holds their rows."""
    store.delete([stat.key for stat in list(store.list(f"{FOLDER}/"))])
