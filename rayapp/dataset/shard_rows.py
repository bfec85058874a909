"""The rows of a piece of a shard, read as a stream of small tables with the images' bytes."""

import contextlib
import itertools
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rayapp.config.errors import UserError
from rayapp.dataset import members
from rayapp.dataset.shards import SHARD_ROWS, Piece, ShardSet
from rayapp.storage.parquet_files import open_parquet

# Of every row; then the set's own columns.
COLUMNS: dict[str, pa.DataType] = {
    "row": pa.int64(),  # shard × 2³² + row of the shard: the id in 8 bytes
    "id": pa.string(),
    "path": pa.string(),
    "url": pa.string(),
    "data": pa.large_binary(),  # the image, where it was read with its row
    "fault": pa.string(),  # why the row can't be read
    **members.COLUMNS,
    "etag": pa.string(),
}
_SIDES = {"cls": pa.int64(), "json": pa.string()}  # what stands beside a tar's images, and is kept
_BATCH_ROWS = 1024
_BATCH_BYTES = 4 << 20
_READ_AHEAD_BYTES = 4 << 20

Done = np.ndarray  # whether each row of a shard is done, bool; shorter than the shard: not


def schema(shards: ShardSet) -> pa.Schema:
    """Of the rows that are read."""
    return pa.schema([*COLUMNS.items(), *((one.name, one.type) for one in shards.kept)])


def part_schema(facts: pa.Schema, kept: pa.Schema) -> pa.Schema:
    """Of a part of a result: the row's number, what the work finds, and the set's own columns."""
    own = [one for one in kept if one.name not in facts.names]
    return pa.schema([pa.field("row", pa.int64()), *facts, *own], metadata=facts.metadata)


def apart_from(facts: pa.Schema, kept: pa.Schema) -> pa.Schema:
    """The set's own columns but those whose names mean something else in a result."""
    fit = [
        one for one in kept if one.name not in facts.names or facts.field(one.name).type == one.type
    ]
    return pa.schema(fit)


def read(shards: ShardSet, piece: Piece, done: Done | None = None) -> Iterator[pa.Table]:
    """The rows of a piece that are not done, in order; what can't be read comes as a fault."""
    wanted = schema(shards)
    rows = _of_tar if piece.shard.kind == "tar" else _of_table
    for columns in rows(shards, piece, np.zeros(0, np.bool_) if done is None else done):
        length = len(columns["row"])
        if length:
            yield pa.table(
                [
                    pa.array(columns[one.name], one.type)
                    if isinstance(columns.get(one.name), list | np.ndarray)
                    else _cast(columns[one.name], one.type)
                    if one.name in columns
                    else pa.nulls(length, one.type)
                    for one in wanted
                ],
                schema=wanted,
            )


def _cast(values: Any, kind: pa.DataType) -> Any:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values if values.type == kind else values.cast(kind)


def _undone(numbers: np.ndarray, done: Done) -> np.ndarray:
    """Which of a shard's rows are not done."""
    inside = numbers < len(done)
    found = np.ones(len(numbers), np.bool_)
    found[inside] = ~done[numbers[inside]]
    return found


def _of_table(shards: ShardSet, piece: Piece, done: Done) -> Iterator[dict[str, Any]]:
    start = piece.first - _base(piece)
    for group in piece.groups:
        rows, size = piece.shard.groups[group]
        numbers, start = np.arange(start, start + rows), start + rows
        if not _undone(numbers, done).any():
            continue
        at = 0
        try:
            file = open_parquet(shards.holder, piece.shard.file)
            columns = list(piece.shard.read)
            for batch in file.iter_batches(_batch_rows(rows, size), [group], columns):
                few = numbers[at : at + batch.num_rows]
                left = _undone(few, done)
                if left.any():
                    given = pa.Table.from_batches([batch]).filter(pa.array(left))
                    yield _as_rows(shards, piece, few[left], given)
                at += batch.num_rows
        except (pa.ArrowException, OSError, UserError) as error:
            # What was given before it stays; of the rest each row is missed.
            few = numbers[at:][_undone(numbers[at:], done)]
            yield _faults(piece, few, f"its row of the table can't be read: {_line(error)}")


def _batch_rows(rows: int, size: int) -> int:
    return int(max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // max(size, 1))))


def _base(piece: Piece) -> int:
    return piece.at * SHARD_ROWS


def _as_rows(
    shards: ShardSet, piece: Piece, numbers: np.ndarray, given: pa.Table
) -> dict[str, Any]:
    """Columns of the rows of a batch; `numbers` are within the shard."""
    shard, values = piece.shard, given[piece.shard.column].combine_chunks()
    columns: dict[str, Any] = {"row": numbers + _base(piece)}
    for name in shards.kept.names:
        if name in given.column_names:
            columns[name] = given[name]
    if shard.kind == "images":
        return columns | _images(piece, numbers, values)
    paths = [value or "" for value in values.to_pylist()]
    columns["path"] = paths
    if "id" in given.column_names:
        columns["id"] = given["id"]
    else:
        columns["id"] = [f"{shard.file.key}#{number}" for number in numbers]
    if "etag" in given.column_names:
        columns["etag"] = given["etag"]
    if shard.kind == "urls":
        columns["url"] = paths
    return columns


def _images(piece: Piece, numbers: np.ndarray, values: Any) -> dict[str, Any]:
    """As `members.rows_of_parquet` names them, with their bytes."""
    file = piece.shard.file
    is_struct = pa.types.is_struct(values.type)
    data = values.field("bytes") if is_struct else values
    names: Sequence[str | None] = [None] * len(numbers)
    if is_struct and values.type.get_field_index("path") >= 0:
        names = values.field("path").to_pylist()
    paths = members.row_paths(file.key, piece.shard.num_rows or 0, numbers.tolist(), names)
    same = {"container": file.key, "column": piece.shard.column, "etag": file.etag}
    named = pa.array(paths, pa.string())
    return {
        "id": named,
        "path": named,
        "data": data,
        "offset": numbers,
        **{name: pa.repeat(value, len(numbers)) for name, value in same.items()},
    }


def _faults(piece: Piece, numbers: np.ndarray, why: str) -> dict[str, Any]:
    file = piece.shard.file
    paths = members.row_paths(
        file.key, piece.shard.num_rows or 0, numbers.tolist(), [None] * len(numbers)
    )
    return {
        "row": numbers + _base(piece),
        "id": paths,
        "path": paths,
        "fault": [why] * len(numbers),
        "container": [file.key] * len(numbers),
        "offset": numbers,
    }


def _of_tar(shards: ShardSet, piece: Piece, done: Done) -> Iterator[dict[str, Any]]:
    """The images of a tar, a sample's label with each; damaged, its end is one row more."""
    waiting: list[dict[str, Any]] = []
    for row in _rows_of_tar(shards, piece, done):
        waiting.append(row)
        if (
            len(waiting) >= _BATCH_ROWS
            or sum(one.get("length", 0) for one in waiting) > _BATCH_BYTES
        ):
            yield _columns(shards, waiting)
            waiting = []
    yield _columns(shards, waiting)


def _columns(shards: ShardSet, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: [row.get(name) for row in rows] for name in schema(shards).names}


def _rows_of_tar(shards: ShardSet, piece: Piece, done: Done) -> Iterator[dict[str, Any]]:
    file = piece.shard.file
    same = {"container": file.key, "etag": file.etag}
    sample: list[dict[str, Any]] = []  # images that follow each other under one key
    sides: dict[str, Any] = {}
    last, number, fault = "", 0, ""
    try:
        for member, path, read_bytes in members.walk_tar(shards.holder, file, _READ_AHEAD_BYTES):
            key, _, suffix = _key_of(member.name)
            if key != last:
                yield from ({**one, **sides} for one in sample)
                sample, sides, last = [], {}, key
            if path is None and suffix in shards.kept.names:
                sides[suffix] = _side(suffix, read_bytes())
            elif path is not None:
                if _is_left(number, done):
                    place = {"offset": member.offset_data, "length": member.size}
                    one = {"row": _base(piece) + number, "id": path, "path": path, **place}
                    sample.append({**one, "data": read_bytes(), **same})
                number += 1
    except (tarfile.TarError, OSError, UserError) as error:
        fault = f"not a tar, or a damaged one: {_line(error)}"
    yield from ({**one, **sides} for one in sample)
    if fault and _is_left(number, done):
        name = {"id": f"{file.key}#{number}", "path": f"{file.key}#{number}"}
        yield {"row": _base(piece) + number, **name, "fault": fault, **same}


def _is_left(number: int, done: Done) -> bool:
    return number >= len(done) or not done[number]


def _key_of(name: str) -> tuple[str, str, str]:
    """A sample's key, as WebDataset cuts it at the first dot of the name, and the suffix."""
    folder, slash, file = name.rpartition("/")
    stem, dot, suffix = file.partition(".")
    return f"{folder}{slash}{stem}", dot, suffix


def _side(suffix: str, data: bytes) -> int | str | None:
    text = data.decode("utf-8", "replace").strip()
    if suffix != "cls":
        return text
    return int(text) if text.removeprefix("-").isdecimal() else None


def sides_of_tar(holder: Any, file: Any) -> pa.Schema:
    """What stands beside the first images of a tar, and is kept."""
    found: dict[str, pa.DataType] = {}
    walked = members.walk_tar(holder, file, _READ_AHEAD_BYTES)
    with contextlib.suppress(tarfile.TarError):  # its rows will tell
        for member, path, _ in itertools.islice(walked, _BATCH_ROWS):
            suffix = _key_of(member.name)[2]
            if path is None and suffix in _SIDES:
                found[suffix] = _SIDES[suffix]
    return pa.schema(list(found.items()))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
