"""The result of a large job: a folder of Parquet parts of one schema, and what it holds.

Workers write the parts; a part is whole, or it is not there. Beside them, until the job is done,
lie Ray Data's checkpoints: one a part, `pending` until its part is written. `_manifest` comes last.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rayapp.dataset.images import sha256
from rayapp.dataset.manifest import FOLDER_MANIFEST, count_failed, parse_table, table_bytes
from rayapp.run.concurrency import read_ahead
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
        """As an earlier run left it; `settle` comes first where there was one."""
        self.store, self.name = store, name
        self.checkpoint = f"{name}-checkpoint"
        self.done = RowsDone()
        self._seen: set[str] = set()

    def settle(self) -> None:
        """Remove parts whose writing was cut off, and count the rows of the others."""
        for stat in list(self.store.list(f"{self.checkpoint}/")):
            if stat.key.endswith(_PENDING):
                base = stat.key.rpartition("/")[2].removesuffix(_PENDING)
                cut_off = [part.key for part in self.store.list(f"{self.name}/{base}")]
                self.store.delete([*cut_off, stat.key])
        self.count()

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

    def finish(self, parts: Sequence[Part], facts: dict[str, Any]) -> None:
        """Write `_manifest`, and drop the checkpoints: each row is in a part now."""
        whole = {
            **facts,
            "rows": sum(part.rows for part in parts),
            "failed": sum(part.failed for part in parts),
            "parts": [asdict(part) for part in parts],
        }
        data = json.dumps(whole, indent=1, ensure_ascii=False).encode()
        self.store.put(f"{self.name}/{FOLDER_MANIFEST}", data)
        self.store.delete([stat.key for stat in list(self.store.list(f"{self.checkpoint}/"))])

    def drop(self) -> None:
        """Remove the parts, of which others were made."""
        for folder in (self.name, self.checkpoint):
            self.store.delete([stat.key for stat in list(self.store.list(f"{folder}/"))])


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
