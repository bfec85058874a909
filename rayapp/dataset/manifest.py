"""The manifest: one Parquet row an image, what it is, where it is from, what became of it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rayapp.config.errors import UserError
from rayapp.storage.disk import scratch_file

if TYPE_CHECKING:
    from rayapp.dataset.labels import Item, LabelScheme
    from rayapp.storage.store import Store

STATUS_OK = "ok"
STATUS_FAILED = "failed"

COLUMNS: dict[str, pa.DataType] = {
    "id": pa.string(),
    "path": pa.string(),
    "sha256": pa.string(),
    "bytes": pa.int64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "format": pa.string(),
    "source": pa.string(),
    "licence": pa.string(),
    "status": pa.string(),
    "error": pa.string(),
}
FOLDER_MANIFEST = "_manifest"  # in a folder of parts of a large table, once it is whole
_SCHEME_KEY = b"label_scheme"
_PARQUET = ".parquet"


def written_images(name: str) -> pa.DataType:
    """What a row's work wrote: a list of images, each known by the column `name`."""
    columns = {
        name: pa.string(),
        "path": pa.string(),
        "sha256": pa.string(),
        "pixel_sha256": pa.string(),
        "bytes": pa.int64(),
        "width": pa.int32(),
        "height": pa.int32(),
        "plan": pa.string(),
    }
    return pa.list_(pa.struct(columns))


def schema(
    scheme: LabelScheme | None = None, extra: Mapping[str, pa.DataType] | None = None
) -> pa.Schema:
    """Columns of a manifest: the common ones, one int16 a label column, and a stage's own."""
    labels = {name: pa.int16() for name in (scheme.columns if scheme else ())}
    types = {"id": COLUMNS["id"], "path": COLUMNS["path"], **labels, **COLUMNS, **(extra or {})}
    metadata = {_SCHEME_KEY: scheme.name.encode()} if scheme else None
    return pa.schema(list(types.items()), metadata=metadata)


def scheme_name(table: pa.Table) -> str | None:
    """The label scheme under which a table's labels were written."""
    name = (table.schema.metadata or {}).get(_SCHEME_KEY)
    return name.decode() if name else None


def item_rows(items: Iterable[Item], scheme: LabelScheme) -> pa.Table:
    """A table of id, path and label columns, the work list of a stage."""
    items = list(items)
    columns: dict[str, Any] = {
        "id": pa.array([item.id for item in items], pa.string()),
        "path": pa.array([item.path for item in items], pa.string()),
    }
    for at, name in enumerate(scheme.columns):
        codes = [item.labels[at] if at < len(item.labels) else None for item in items]
        columns[name] = pa.array(codes, pa.int16())
    return pa.table(columns).replace_schema_metadata({_SCHEME_KEY: scheme.name.encode()})


def from_rows(rows: Sequence[Mapping[str, Any]], wanted: pa.Schema) -> pa.Table:
    """Rows as a table of the wanted schema, sorted by id: the same whatever the order of work."""
    names = wanted.names
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pa.table(columns, schema=wanted).sort_by("id")


def table_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def write_table(store: Store, key: str, table: pa.Table) -> None:
    """Write one Parquet file whole or not at all."""
    store.put(key, table_bytes(table))


def write_chunks(store: Store, key: str, chunks: Iterable[pa.Table], wanted: pa.Schema) -> None:
    """Write one Parquet file from tables of one schema, of which one at a time is in memory."""
    with scratch_file() as file:
        with pq.ParquetWriter(file, wanted, compression="zstd") as writer:
            for chunk in chunks:
                writer.write_table(chunk.cast(wanted))
        store.put(key, file)


def parse_table(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in the bytes of a Parquet file, or some of its columns.

    Raises:
        pa.ArrowException: they are none.
    """
    # `read_table` reads through a dataset, whose threads hold on to the bytes beyond the read: a
    # process that ends right after it is aborted, nearly always.
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        return file.read(columns)


def part_keys(store: Store, key: str) -> list[str]:
    """The parts that stand for a table: of a large one that is whole, in the folder of its name."""
    folder = key.removesuffix(_PARQUET)
    if store.stat(f"{folder}/{FOLDER_MANIFEST}") is None:
        return []
    return sorted(s.key for s in store.list(f"{folder}/") if s.key.endswith(_PARQUET))


def is_there(store: Store, key: str) -> bool:
    """Whether there is such a table, as one file or as a folder of parts."""
    return store.stat(key) is not None or bool(part_keys(store, key))


def read_table(store: Store, key: str) -> pa.Table:
    """Read one Parquet file, or in its place all parts of a large table, in id order.

    Raises:
        UserError: there is no such file, or it is no Parquet.
    """
    try:
        data = store.get(key)
    except FileNotFoundError:
        if parts := part_keys(store, key):
            where = store.uri(key.removesuffix(_PARQUET))
            return together([read_table(store, one) for one in parts], where).sort_by("id")
        raise UserError(f"{store.uri(key)}: no such file") from None
    try:
        return parse_table(data)
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{store.uri(key)}: not a Parquet file, or a damaged one: {why}") from None


def together(tables: Iterable[pa.Table], where: str) -> pa.Table:
    """Tables of several runs as one; of a column that only some have, the others' rows are null.

    Raises:
        UserError: a column has several types; `where` says whose tables they are.
    """
    try:
        return pa.concat_tables(tables, promote_options="default")
    except pa.ArrowException as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{where}: tables of several versions that do not fit together ({why}); give another "
            "--output, or remove them, to make them anew"
        ) from None


def filled(table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """A table of an earlier version with the columns that came since, null; all others stay."""
    for one in wanted:
        if one.name not in table.column_names:
            table = table.append_column(one, pa.nulls(table.num_rows, one.type))
    return table


def count_failed(table: pa.Table) -> int:
    """Rows whose status is not ok."""
    return int(pc.sum(pc.not_equal(table["status"], STATUS_OK)).as_py() or 0)
