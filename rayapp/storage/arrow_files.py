"""A store as Arrow's file system: Ray Data and Ray Train write through it as our own puts would.

So what workers write arrives whole or not at all, on local disk and in a bucket, under the
credentials, retries and checksums that all other files have. No secret travels with it: Arrow's own
client of Azure is pickled with its key.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSystemHandler, FileType, PyFileSystem

from rayapp.storage.disk import scratch_file
from rayapp.storage.store import Stat, Store

_PARQUET = ".parquet"
_MAGIC = b"PAR1"
_PIECE_BYTES = 8 << 20  # of a file that is read in order


def arrow_files(store: Store) -> PyFileSystem:
    """The files of a store; paths are its keys."""
    return PyFileSystem(_StoreFiles(store))


class _StoreFiles(FileSystemHandler):  # type: ignore[misc]
    """What Arrow asks of a file system; a folder is there where a file lies below it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _StoreFiles) and other._store.root == self._store.root

    def __hash__(self) -> int:
        return hash(self._store.root)

    def get_type_name(self) -> str:
        return "imaginet"

    def normalize_path(self, path: str) -> str:
        return path.strip("/")

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        return [self._info(self.normalize_path(path)) for path in paths]

    def _info(self, key: str) -> FileInfo:
        if key and (stat := self._store.stat(key)) is not None:
            return _file(stat)
        below = next(iter(self._store.list(f"{key}/" if key else "")), None)
        return FileInfo(key, FileType.NotFound if below is None else FileType.Directory)

    def get_file_info_selector(self, selector: Any) -> list[FileInfo]:
        folder = self.normalize_path(selector.base_dir)
        found = list(self._below(folder, selector.recursive))
        if not found and not selector.allow_not_found:
            raise FileNotFoundError(self._store.uri(folder))
        return found

    def _below(self, folder: str, recursive: bool) -> Iterator[FileInfo]:
        if recursive:
            yield from self._all_below(f"{folder}/" if folder else "")
            return
        folders, files = self._store.level(folder)
        yield from (FileInfo(name, FileType.Directory) for name in folders)
        yield from map(_file, files)

    def _all_below(self, start: str) -> Iterator[FileInfo]:
        said = set[str]()
        for stat in self._store.list(start):
            above = stat.key[len(start) :].split("/")[:-1]
            for depth in range(1, len(above) + 1):
                folder = start + "/".join(above[:depth])
                if folder not in said:
                    said.add(folder)
                    yield FileInfo(folder, FileType.Directory)
            yield _file(stat)

    def create_dir(self, path: str, recursive: bool) -> None:
        """Nothing: it comes with its first file."""

    def delete_dir(self, path: str) -> None:
        prefix = f"{self.normalize_path(path)}/"
        self._store.delete([stat.key for stat in list(self._store.list(prefix))])

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self.delete_dir(path)

    def delete_root_dir_contents(self) -> None:
        raise PermissionError("a store is not emptied as a whole")

    def delete_file(self, path: str) -> None:
        self._store.delete([self.normalize_path(path)])

    def move(self, src: str, dest: str) -> None:
        """The new name is whole before the old one goes."""
        self.copy_file(src, dest)
        self.delete_file(src)

    def copy_file(self, src: str, dest: str) -> None:
        self._store.put(self.normalize_path(dest), self._store.get(self.normalize_path(src)))

    def open_input_stream(self, path: str) -> pa.NativeFile:
        reader = _Ranges(self._store, self.normalize_path(path))
        return pa.PythonFile(io.BufferedReader(reader, _PIECE_BYTES), mode="r")

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(_Ranges(self._store, self.normalize_path(path)), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        return pa.PythonFile(_Whole(self._store, self.normalize_path(path)), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        raise NotImplementedError("files are written whole")


class _Ranges(io.RawIOBase):
    """A file of a store: what is read is asked for."""

    def __init__(self, store: Store, key: str) -> None:
        stat = store.stat(key)
        if stat is None:
            raise FileNotFoundError(store.uri(key))
        self._store, self._key, self._size, self._at = store, key, stat.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
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


class _Whole(io.RawIOBase):
    """A file that is put to the store when it is closed, if it came to its end."""

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
            # A writer that fails closes its file too; Parquet says at its end that it is whole.
            if not self._key.endswith(_PARQUET) or self._has_end():
                self._store.put(self._key, self._file)
        finally:
            super().close()
            self._scratch.close()

    def _has_end(self) -> bool:
        if self._file.seek(0, os.SEEK_END) < 2 * len(_MAGIC):  # it stands at the start too
            return False
        self._file.seek(-len(_MAGIC), os.SEEK_END)
        return self._file.read() == _MAGIC


def _file(stat: Stat) -> FileInfo:
    return FileInfo(stat.key, FileType.File, size=stat.size)
