"""What is to be scored, listed where it is small, and in shards where it is large.

Tables of images and tars are shards as they lie; see `input_shards`. A folder or list of more than
`LARGE` images is written down as tables of paths, some ten thousand at a time.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from rayapp.config.errors import UserError
from rayapp.dataset import manifest, shard_rows
from rayapp.dataset.clutter import clutter_kind
from rayapp.dataset.inputs.found_files import walk
from rayapp.dataset.inputs.input_shards import find_shards
from rayapp.dataset.inputs.listed_inputs import Inputs, TooMany, paths_table, resolve
from rayapp.dataset.shards import Shard, ShardSet
from rayapp.run.record import digest
from rayapp.run.row_work import Row
from rayapp.storage.store import LocalStore, Stat, Store
from rayapp.storage.uris import open_store

LARGE = 100_000  # rows at most that are listed, and of a result that is one table too
_WORK_LIST = "work-list"  # under the output: the paths of a folder or list, in tables
_LISTED_ROWS = 50_000


@dataclass(frozen=True)
class LargeInputs:
    """A set in shards, its digest; and the scratch folder of shards that were written down here."""

    shards: ShardSet
    digest: str
    written: LocalStore | None = None

    def put_down(self, output: Store) -> None:
        """Put what was written down to the output, where workers read it."""
        for shard in self.shards.shards if self.written else ():
            there = output.stat(shard.file.key)
            if self.written and (there is None or there.size != shard.file.size):
                output.put(shard.file.key, self.written.get(shard.file.key))


def find_inputs(
    uri: str,
    *,
    root: str | None,
    scheme: str,
    column: str | None,
    stream: bool | None,
    scratch: str,
    output: str,
) -> Inputs | LargeInputs:
    """The images that an input names, in shards where they are many; see `inputs.resolve`.

    Args:
        uri: see `inputs.resolve` and `input_shards.find_shards`.
        root: where the paths of a list or table start.
        scheme: label scheme of an annotation list.
        column: of a table, with the images, paths or addresses.
        stream: whether in shards; None: from `LARGE` rows on.
        scratch: a local folder for what is written down.
        output: where it will lie.

    Raises:
        UserError: nothing there, or nothing that can be read.
    """
    least = 0 if stream else LARGE if stream is None else 1 << 62
    shards = find_shards(uri, root, column, least + 1 if least else 0)
    if shards is not None:
        files = [shard.file for shard in shards.shards]
        entries = [part for one in files for part in (one.key.encode(), one.etag.encode())]
        return LargeInputs(shards, digest(shards.root.root.encode(), *entries))
    written, holder = LocalStore(scratch), open_store(output)
    try:
        inputs = resolve(uri, root=root, scheme=scheme, column=column, most=least or LARGE)
    except TooMany:
        if stream is False:
            return resolve(uri, root=root, scheme=scheme, column=column)
        inputs, tables = _walked(uri)
        return LargeInputs(*_listed_shards(written, inputs, tables, holder), written)
    if inputs.table.num_rows <= least or "container" in inputs.table.column_names:
        return inputs
    tables = _in_tables(inputs.table)
    return LargeInputs(*_listed_shards(written, inputs, tables, holder), written)


def first_rows(large: LargeInputs, count: int) -> list[Row]:
    """Some rows of the set, of the first shard that has any."""
    shards = large.shards  # what was written down is not at the output before it is claimed
    shards = replace(shards, holder=large.written) if large.written else shards
    for piece in shards.pieces():
        for table in shard_rows.read(shards, piece):
            rows: list[Row] = table.slice(0, count).to_pylist()
            return rows
    return []


def _listed_shards(
    folder: LocalStore, inputs: Inputs, tables: Iterable[pa.Table], holder: Store
) -> tuple[ShardSet, str]:
    """A set that is listed, written down as tables of paths under `folder`; and their digest.

    Args:
        folder: a scratch folder; what is in it goes to `holder` once the output is claimed.
        inputs: where its paths start, and its labels' scheme.
        tables: rows of id and path, and what goes along.
        holder: where the tables will lie.
    """
    shards, digests, kept = [], [], pa.schema([])
    for number, table in enumerate(tables):
        key = f"{_WORK_LIST}/{number:06}.parquet"
        table = table.replace_schema_metadata(None)
        kept = pa.schema([one for one in table.schema if one.name not in ("id", "path", "etag")])
        manifest.write_table(folder, key, table)
        etags = table["etag"].to_pylist() if "etag" in table.column_names else []
        entries = [*table["id"].to_pylist(), *etags]
        digests.append(digest(*((one or "").encode() for one in entries)))
        stat = Stat(key, len(folder.get(key)), digests[-1], 0.0)
        read = tuple(table.column_names)
        shards.append(Shard("paths", stat, "path", read, ((table.num_rows, table.nbytes),)))
    if not shards:
        raise UserError(f"{inputs.root.root}: holds no image")
    found = ShardSet(inputs.root, holder, shards, kept, inputs.scheme, inputs.left_out)
    return found, digest(inputs.root.root.encode(), *(one.encode() for one in digests))


def _in_tables(table: pa.Table) -> Iterator[pa.Table]:
    """A list's rows, some ten thousand at a time."""
    for at in range(0, table.num_rows, _LISTED_ROWS):
        yield table.slice(at, _LISTED_ROWS)


def _walked(uri: str) -> tuple[Inputs, Iterator[pa.Table]]:
    """A folder's or pattern's images, some ten thousand at a time; what is none is counted."""
    store, listed = walk(uri)
    inputs = Inputs(store, pa.table({}))

    def tables() -> Iterator[pa.Table]:
        while few := list(itertools.islice(listed, _LISTED_ROWS)):
            images = []
            for stat in few:
                # A table beside images says something of them.
                kind = clutter_kind(stat.key) or ".parquet" * stat.key.lower().endswith(".parquet")
                images.append(stat) if not kind else inputs.left_out.update([kind])
            if images:
                yield paths_table(images)

    return inputs, tables()
