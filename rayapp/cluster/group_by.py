"""Files of equal bytes in a large result: hashes and ids, grouped by the workers.

Ray Data's hash shuffle brings the rows of a hash together (`repartition` by its key); before and
after it, Arrow adds up what is known of each. `groupby(…).map_groups` and `aggregate` go through
the groups one by one in Python, and here nearly every row is a group of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pyarrow as pa
import ray.data

from rayapp.cluster.ray_data import quiet
from rayapp.dataset.repeats import COLUMNS, Repeats, by_hash, repeats_in, together
from rayapp.run.dataset_folder import DatasetFolder
from rayapp.storage.parquet_files import open_parquet
from rayapp.storage.store import Store

_PARTS_A_TASK = 8
_ROWS_A_PARTITION = 200_000


def repeats_among(folder: DatasetFolder, num_rows: int) -> Repeats:
    """The files of equal bytes in all parts of a folder."""
    keys = [stat.key for stat in folder.parts()]
    groups = [keys[at : at + _PARTS_A_TASK] for at in range(0, len(keys), _PARTS_A_TASK)]
    blocks = [pa.table({"key": few}) for few in groups]
    whole = Repeats()
    with _whole_partitions():
        found = (
            ray.data.from_blocks(blocks)
            .map_batches(partial(_hashes, folder.store), batch_size=None, batch_format="pyarrow")
            .repartition(1 + num_rows // _ROWS_A_PARTITION, keys=["sha256"])
            .map_batches(_repeats, batch_size=None, batch_format="pyarrow")
        )
        for row in found.iter_rows():
            whole.merge(Repeats.from_json(row["found"]))
    return whole


@contextmanager
def _whole_partitions() -> Iterator[None]:
    """A hash lies in one partition, and a partition is one block: Ray would cut large ones."""
    quiet()
    context = ray.data.DataContext.get_current()
    before, context.target_max_block_size = context.target_max_block_size, None
    errored, context.max_errored_blocks = context.max_errored_blocks, 0
    try:
        yield
    finally:
        context.target_max_block_size = before
        context.max_errored_blocks = errored


def _hashes(store: Store, keys: pa.Table) -> pa.Table:
    tables = []
    for key in keys["key"].to_pylist():
        stat = store.stat(key)
        if stat is None:
            raise FileNotFoundError(store.uri(key))
        with open_parquet(store, stat) as file:
            names = [name for name in COLUMNS if name in file.schema_arrow.names]
            tables.append(by_hash(file.read(names)))
    return together(tables)


def _repeats(hashes: pa.Table) -> pa.Table:
    return pa.table({"found": [repeats_in(together([hashes])).to_json()]})
