"""A store as a filesystem of pyarrow, which Ray and readers of Parquet take.

pyarrow has clients of its own for both clouds. These carry the key along where they are pickled,
and Azure's knows neither tokens of the environment nor workload identities.
"""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import fs

from rayapp.storage.disk import scratch_file
from rayapp.storage.store import Stat, Store
from rayapp.storage.uris import open_store

_CLOUDS = ("gs", "az")


def arrow_filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a URI, and the path on it; UserError as `open_store`.

    It is picklable, and a worker reaches a bucket with its own credentials.
    """
    store = open_store(uri)  # which says what is wrong with it
    scheme, is_uri, path = store.root.partition("://")
    if not is_uri:
        return fs.LocalFileSystem(), store.root
    if scheme in _CLOUDS:
        return fs.PyFileSystem(_Handler(scheme)), path
    # Of the bucket alone: in a whole URI `#` and `?` would not be characters of a key.
    return fs.FileSystem.from_uri(f"{scheme}://{path.partition('/')[0]}")[0], path


class _Handler(fs.FileSystemHandler):  # type: ignore[misc]
    """What pyarrow asks, at paths `bucket/key`."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Handler) and other.scheme == self.scheme

    def __hash__(self) -> int:
        return hash(self.scheme)

    def get_type_name(self) -> str:
        return self.scheme

    def normalize_path(self, path: str) -> str:
        return path.strip("/")

    def _at(self, path: str) -> tuple[Store, str]:
        bucket, _, key = path.strip("/").partition("/")
        return open_store(f"{self.scheme}://{bucket}"), key

    def get_file_info(self, paths: Sequence[str]) -> list[fs.FileInfo]:
        return [self._info(path) for path in paths]

    def _info(self, path: str) -> fs.FileInfo:
        store, key = self._at(path)
        found = store.stat(key) if key else None
        if found:
            return _file(path, found)
        below = not key or next(store.list(f"{key}/"), None) is not None
        return fs.FileInfo(path, fs.FileType.Directory if below else fs.FileType.NotFound)

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        base = self.normalize_path(selector.base_dir)
        found = list(self._below(base, selector.recursive))
        if not found and not selector.allow_not_found:
            raise FileNotFoundError(f"{self.scheme}://{base}")
        return found

    def _below(self, base: str, recursive: bool) -> Iterator[fs.FileInfo]:
        store, key = self._at(base)
        bucket = base.partition("/")[0]
        if not recursive:
            folders, objects = store.level(key)
            yield from (_folder(f"{bucket}/{one}") for one in folders)
            yield from (_file(f"{bucket}/{one.key}", one) for one in objects)
            return
        start, seen = f"{key}/" if key else "", set[str]()
        for one in store.list(start):
            parts = one.key[len(start) :].split("/")[:-1]
            for number in range(1, len(parts) + 1):
                folder = start + "/".join(parts[:number])
                if folder not in seen:
                    seen.add(folder)
                    yield _folder(f"{bucket}/{folder}")
            yield _file(f"{bucket}/{one.key}", one)

    def create_dir(self, path: str, recursive: bool) -> None:
        """Nothing: a folder is there as long as there is something in it."""

    def delete_dir(self, path: str) -> None:
        store, key = self._at(path)
        store.delete([stat.key for stat in store.list(f"{key}/" if key else "")])

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self.delete_dir(path)

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError("all buckets at once are not emptied")

    def delete_file(self, path: str) -> None:
        store, key = self._at(path)
        store.delete([key])

    def move(self, src: str, dest: str) -> None:
        self.copy_file(src, dest)
        self.delete_file(src)

    def copy_file(self, src: str, dest: str) -> None:
        (source, key), (target, name) = self._at(src), self._at(dest)
        target.put(name, source.get(key))

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(io.BufferedReader(_Reader(*self._at(path)), 8 << 20), mode="r")

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(_Reader(*self._at(path)), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        return pa.PythonFile(_Writer(*self._at(path)), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        raise NotImplementedError("an object is written whole")


class _Reader(io.RawIOBase):
    """An object as an open file: each read is a request for that range."""

    def __init__(self, store: Store, key: str) -> None:
        found = store.stat(key)
        if found is None:
            raise FileNotFoundError(store.uri(key))
        self._store, self._key, self._size, self._at = store, key, found.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._size - self._at, 0)
        length = left if size is None or size < 0 else min(size, left)
        data = self._store.get_range(self._key, self._at, length)
        if len(data) != length:
            raise OSError(f"{self._store.uri(self._key)}: replaced while it was read")
        self._at += length
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Writer(io.RawIOBase):
    """An object to be: it is put, whole, when it is closed."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key
        self._scratch = contextlib.ExitStack()
        self._file = self._scratch.enter_context(scratch_file())

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._store.put(self._key, self._file)
        finally:
            super().close()
            self._scratch.close()


def _file(path: str, found: Stat) -> fs.FileInfo:
    return fs.FileInfo(path, fs.FileType.File, size=found.size, mtime=found.modified)


def _folder(path: str) -> fs.FileInfo:
    return fs.FileInfo(path, fs.FileType.Directory)
