"""The result of a large job: a folder of Parquet parts of one schema, and what it holds.

Workers write the parts; a part is whole, or it is not there. Beside them, until the job is done,
lie Ray Data's checkpoints: one a part, `pending` until its part is written. `_manifest` comes last.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayapp.dataset.images import sha256
from rayapp.dataset.manifest import (
    FOLDER_MANIFEST,
    STATUS_OK,
    count_failed,
    parse_table,
    table_bytes,
    write_table,
)
from rayapp.run.columns import check_columns
from rayapp.run.concurrency import read_ahead
from rayapp.run.resume import sound_rows
from rayapp.run.rows_done import RowsDone
from rayapp.storage.parquet_files import open_parquet
from rayapp.storage.store import Stat, Store

_SUFFIX = ".parquet"
_PENDING = ".pending.parquet"
_READERS = 8  # parts that are counted at once


@dataclass(frozen=True)
class Part:
    """A file of the folder: its name there, rows, those that failed, bytes and hash."""

    file: str
    rows: int
    failed: int
    bytes: int
    sha256: str


class DatasetFolder:
    """Parts under a run's output, and the rows that they hold."""

    def __init__(self, store: Store, name: str) -> None:
        """As an earlier run left it; where there was one, `settle` comes first."""
        self.store, self.name = store, name
        self.checkpoint = f"{name}-checkpoint"
        self.done = RowsDone()
        self._seen: set[str] = set()

    def settle(self, wanted: pa.Schema) -> None:
        """Leave what an earlier run did whole and without failure, and count it.

        Parts whose writing was cut off go, and so do rows that failed: both are done again.

        Args:
            wanted: columns of the parts to come.

        Raises:
            UserError: the parts that are there have others; no row of them is touched.
        """
        self._remove_cut_off()
        parts, failed = list(self.parts()), []
        with ThreadPoolExecutor(_READERS) as threads:
            look_at = partial(self._sound_numbers, wanted=wanted)
            looked_at = read_ahead(threads, look_at, parts, 2 * _READERS)
            for part, (numbers, num_rows) in zip(parts, looked_at, strict=True):
                self.done.add(numbers)
                if len(numbers) < num_rows:
                    failed.append(part)
            self.begin_anew()
            for _ in read_ahead(threads, self._forget_failed, failed, 2 * _READERS):
                pass
        self._seen.update(part.key for part in parts)

    def _remove_cut_off(self) -> None:
        for stat in list(self.store.list(f"{self.checkpoint}/")):
            if stat.key.endswith(_PENDING):
                base = stat.key.rpartition("/")[2].removesuffix(_PENDING)
                cut_off = [part.key for part in self.store.list(f"{self.name}/{base}")]
                self.store.delete([*cut_off, stat.key])

    def _sound_numbers(self, part: Stat, wanted: pa.Schema) -> tuple[np.ndarray, int]:
        """Numbers of the rows of a part that did not fail, and how many rows it has."""
        with open_parquet(self.store, part) as file:
            uris = self.store.uri(part.key), self.store.uri(self.name)
            check_columns(file.schema_arrow, wanted, *uris)
            rows = file.read(["row", "status"], use_threads=False)
        sound = rows.filter(pc.equal(rows["status"], STATUS_OK))
        return sound["row"].to_numpy(), rows.num_rows

    def _forget_failed(self, part: Stat) -> None:
        """Write a part without the rows that failed; a kill on the way leaves them to the next."""
        sound = sound_rows(self.read(part))
        # Before the part: a checkpoint never names a row that is not there.
        base = part.key.rpartition("/")[2].rpartition("-")[0]
        self.store.delete([f"{self.checkpoint}/{base}{_SUFFIX}"])
        if sound.num_rows:
            write_table(self.store, part.key, sound)
        else:
            self.store.delete([part.key])

    def count(self) -> None:
        """Count the rows of parts that were not there before; of each one column is read."""
        fresh = [stat for stat in self.parts() if stat.key not in self._seen]
        with ThreadPoolExecutor(_READERS) as threads:
            for numbers in read_ahead(threads, self._numbers, fresh, 2 * _READERS):
                self.done.add(numbers)
        self._seen.update(stat.key for stat in fresh)

    def _numbers(self, part: Stat) -> np.ndarray:
        with open_parquet(self.store, part) as file:
            numbers: np.ndarray = file.read(["row"], use_threads=False)["row"].to_numpy()
            return numbers

    def parts(self) -> Iterator[Stat]:
        """The parts, by name."""
        found = self.store.list(f"{self.name}/")
        yield from (stat for stat in found if stat.key.endswith(_SUFFIX))

    def read(self, part: Stat) -> pa.Table:
        """The rows of a part."""
        return parse_table(self.store.get(part.key))

    def begin_anew(self) -> None:
        """Take `_manifest` away: until `finish` the folder is not whole."""
        self.store.delete([f"{self.name}/{FOLDER_MANIFEST}"])

    def finish(self, parts: Sequence[Part], facts: dict[str, Any]) -> None:
        """Write `_manifest`; what belongs to no part of it goes, and so do the checkpoints."""
        whole = {
            **facts,
            "rows": sum(part.rows for part in parts),
            "failed": sum(part.failed for part in parts),
            "parts": [asdict(part) for part in parts],
        }
        named = {f"{self.name}/{part.file}" for part in parts}
        self.store.delete([stat.key for stat in list(self.parts()) if stat.key not in named])
        data = json.dumps(whole, indent=1, ensure_ascii=False).encode()
        self.store.put(f"{self.name}/{FOLDER_MANIFEST}", data)
        self.drop_checkpoints()

    def drop_checkpoints(self) -> None:
        """Remove the checkpoints: each row is in a part now."""
        self.store.delete([stat.key for stat in list(self.store.list(f"{self.checkpoint}/"))])

    def drop(self) -> None:
        """Remove the parts, of which others were made."""
        self.store.delete([stat.key for stat in list(self.store.list(f"{self.name}/"))])
        self.drop_checkpoints()


def read_part(store: Store, key: str) -> tuple[pa.Table, Part]:
    """A part's rows, and what is to be told of it."""
    data = store.get(key)
    table = parse_table(data)
    return table, _described(key, table, data)


def write_part(store: Store, key: str, table: pa.Table) -> Part:
    """A part that is made of another one; what is to be told of it."""
    data = table_bytes(table)
    store.put(key, data)
    return _described(key, table, data)


def _described(key: str, table: pa.Table, data: bytes) -> Part:
    name = key.rpartition("/")[2]
    return Part(name, table.num_rows, count_failed(table), len(data), sha256(data))
