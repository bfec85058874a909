"""Images inside other files: members of a tar, rows of a Parquet file; listed first, read late.

A row of such an image names its `container`, the file under the root; then of a tar's member the
`offset` and `length` of its bytes, of a Parquet file the row as `offset` and the `column`.
"""

import errno
import functools
import io
import os
import posixpath
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rayapp.config.errors import UserError
from rayapp.dataset.clutter import clutter_kind
from rayapp.dataset.formats import ImageError
from rayapp.storage.parquet_files import StoredFile, open_parquet
from rayapp.storage.store import Stat, Store
from rayapp.storage.uris import open_store
from rayapp.storage.web import fetch

COLUMNS: dict[str, pa.DataType] = {
    "container": pa.string(),
    "column": pa.string(),
    "offset": pa.int64(),
    "length": pa.int64(),
}
# What can't be read from where it is, and what to do.
_ADVICE = {
    (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst"): "a compressed tar can't be read image "
    "by image: uncompress it to a .tar, or unpack it and give the folder",
    (".zip", ".7z", ".rar"): "unpack it and give the folder",
    (".tar",): "beside images it is not opened: give it as --input of its own",
}
_BUFFER_BYTES = 256 << 10  # a header of a tar and, mostly, the next ones
_IMAGE_COLUMNS = ("image", "img", "bytes", "image_bytes", "jpg", "jpeg", "png", "webp", "content")
# What WebDataset keeps beside an image: labels, arrays, pickles.
_SIDES = frozenset(
    {".cls", ".cls2", ".index", ".inx", ".id", ".npy", ".npz", ".ten", ".mp", ".msg", ".msgpack",
     ".pyd", ".pkl", ".pickle", ".pt", ".pth", ".caption", ".prompt", ".transcript"}
)  # fmt: skip
_READING = threading.Lock()
TarError = tarfile.TarError


def advice(key: str) -> str:
    """What to do with an archive, by its name; empty where it is none."""
    return next((say for ends, say in _ADVICE.items() if key.lower().endswith(ends)), "")


def walk_tar(
    store: Store, tar: Stat, buffer_bytes: int = _BUFFER_BYTES
) -> Iterator[tuple[tarfile.TarInfo, str | None, Callable[[], bytes]]]:
    """Each file of a tar, the path of its image if it may be one, and what reads its bytes.

    Raises:
        tarfile.TarError: no tar, or one that ends too soon.
    """
    repeats: dict[str, int] = {}
    file = io.BufferedReader(StoredFile(store, tar.key, tar.size), buffer_bytes)
    with tarfile.open(fileobj=file, mode="r:") as opened:
        for member in opened:
            opened.members = []  # type: ignore[attr-defined]  # it would keep them all
            if member.isdir():
                continue
            path = None
            if _kind_in_tar(member) is None:
                name = member.name.encode("utf-8", "backslashreplace").decode()
                path = tar.key + posixpath.normpath(f"/{name}")  # no `..` leads out
                repeat = repeats[path] = repeats.get(path, -1) + 1
                path = f"{path}#{repeat}" if repeat else path
            yield member, path, functools.partial(_member_bytes, opened, member)
        # A header that is cut off or overwritten looks to tarfile like the end.
        if store.get_range(tar.key, opened.offset, tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"no header at byte {opened.offset:,}")


def _member_bytes(opened: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = opened.extractfile(member)
    data = file.read() if file else b""
    if len(data) != member.size:
        raise tarfile.ReadError("unexpected end of data")
    return data


def _kind_in_tar(member: tarfile.TarInfo) -> str | None:
    """What a file of a tar is that is no image, None where it may be one."""
    if not member.isreg():
        return "links in a tar"
    suffix = member.name[member.name.rfind(".") :].lower()
    return suffix if suffix in _SIDES else clutter_kind(member.name)


def members_of_tar(store: Store, tar: Stat) -> tuple[pa.Table, list[str]]:
    """The members of a tar that may be images, and the kinds of those that are none.

    Raises:
        UserError: no tar, or one that ends too soon.
    """
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    try:
        for member, path, _ in walk_tar(store, tar):
            if path is None:
                left_out.append(str(_kind_in_tar(member)))
            else:
                place = {"offset": member.offset_data, "length": member.size}
                rows.append({"path": path, **place})
    except tarfile.TarError as error:
        raise UserError(f"{store.uri(tar.key)}: not a tar, or a damaged one: {error}") from None
    return _table(tar, rows, None), left_out


def image_column(schema: pa.Schema, column: str | None = None) -> str | None:
    """The column that holds images themselves: bytes, or `{bytes, path}` as Hugging Face has it."""
    if column is not None:
        at = schema.get_field_index(column)
        return column if at >= 0 and _is_bytes(_image_type(schema.field(at).type)) else None
    holds = [field.name for field in schema if _is_bytes(_image_type(field.type))]
    usual = [name for name in _IMAGE_COLUMNS if name in holds]
    structs = [name for name in holds if pa.types.is_struct(schema.field(name).type)]
    return next(iter([*usual, *structs]), None)


def _image_type(kind: pa.DataType) -> pa.DataType:
    """Of a struct the type of its field `bytes`."""
    if not pa.types.is_struct(kind):
        return kind
    return next((part.type for part in kind if part.name == "bytes"), pa.null())


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def rows_of_parquet(store: Store, file: Stat, column: str) -> pa.Table:
    """A row an image of a Parquet file; named by its row, and by the name that stands with it."""
    opened = open_parquet(store, file)
    kind = opened.schema_arrow.field(column).type
    total = opened.metadata.num_rows
    names: list[str | None] = [None] * total
    if pa.types.is_struct(kind) and any(part.name == "path" for part in kind):
        found = opened.read(columns=[f"{column}.path"])[column]
        names = pc.struct_field(found, "path").to_pylist()
    paths = row_paths(file.key, total, range(total), names)
    rows = [{"path": path, "offset": number} for number, path in enumerate(paths)]
    return _table(file, rows, column)


def row_paths(
    key: str, total: int, numbers: Sequence[int], names: Sequence[str | None]
) -> list[str]:
    """Paths of some of a table's `total` rows: by number, and by the name that stands with each."""
    width = len(str(max(total - 1, 0)))
    start, digits = f"{key}/", f"0{width}d"
    return [
        start + format(number, digits) + (f"_{name[name.rfind('/') + 1 :]}" if name else "")
        for number, name in zip(numbers, names, strict=True)
    ]


def _table(container: Stat, rows: list[dict[str, Any]], column: str | None) -> pa.Table:
    paths = pa.array([row["path"] for row in rows], pa.string())
    same = {"container": container.key, "column": column, "etag": container.etag}
    own = {name: [row.get(name) for row in rows] for name in ("offset", "length")}
    columns = {name: pa.array([value] * len(rows), pa.string()) for name, value in same.items()}
    columns |= {name: pa.array(values, pa.int64()) for name, values in own.items()}
    return pa.table({"id": paths, "path": paths, **columns})


def read_image(root: Store, row: Mapping[str, Any]) -> bytes:
    """The bytes of a row's image, wherever it lies.

    Raises:
        OSError: the file can't be read.
        ImageError: its row of a table can't be read, or holds none.
    """
    if (data := row.get("data")) is not None:  # read with its row
        return bytes(data)
    if address := row.get("url"):
        return fetch(address)
    container = row.get("container")
    if not container:
        return root.get(row["path"])
    if row["length"] is not None:
        return root.get_range(container, row["offset"], row["length"])
    # By its state too: a process may live longer than a file stays as it is.
    try:
        value = _value((root.root, container, row["etag"]), row["column"], row["offset"])
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split())
        raise ImageError(f"its row of the table can't be read: {why}") from None
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, "")
    if data is None and path:  # the table only names the file
        return root.get(posixpath.normpath(posixpath.join(posixpath.dirname(container), path)))
    if data is None:
        raise ImageError("its row of the table holds no image")
    return bytes(data)


def _value(file: tuple[str, str, str], column: str, row: int) -> Any:
    # One thread at a time: a row group holds hundreds of images, and two are kept.
    with _READING:
        metadata = _opened(file).metadata
        for group in range(metadata.num_row_groups):
            count = metadata.row_group(group).num_rows
            if row < count:
                return _group(file, column, group)[row].as_py()
            row -= count
    raise ImageError("the table has lost this row")


@functools.lru_cache(maxsize=2)
def _opened(file: tuple[str, str, str]) -> pq.ParquetFile:
    store = open_store(file[0])
    stat = store.stat(file[1])
    if stat is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), store.uri(file[1]))
    return open_parquet(store, stat)


@functools.lru_cache(maxsize=2)
def _group(file: tuple[str, str, str], column: str, group: int) -> pa.ChunkedArray:
    return _opened(file).read_row_group(group, columns=[column])[column]


def images_in(
    store: Store, found: Sequence[Stat], column: str | None
) -> Iterator[tuple[pa.Table, list[str]]]:
    """Of each tar and Parquet file its images, and the kinds of what is none.

    Raises:
        UserError: a damaged file, or a table that holds no images.
    """
    for one in found:
        if one.key.lower().endswith(".tar"):
            yield members_of_tar(store, one)
            continue
        name = image_column(open_parquet(store, one).schema_arrow, column)
        if name is None:
            raise UserError(
                f"{store.uri(one.key)}: holds no column of images; a table of paths goes alone: "
                f"--input {store.uri(one.key)}"
            )
        yield rows_of_parquet(store, one, name), []
