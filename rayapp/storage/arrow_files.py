"""A store as Arrow's file system: Ray Data writes through it what our own puts would write.

So what workers write arrives whole or not at all, on local disk and in a bucket, under the
credentials, retries and checksums that all other files have.
"""

import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSystemHandler, FileType, PyFileSystem

from rayapp.storage.store import Stat, Store

_PARQUET = ".parquet"
_MAGIC = b"PAR1"
_LEAST_BYTES = len(_MAGIC)  # it stands at the start too


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
            yield from map(_file, self._store.list(f"{folder}/" if folder else ""))
            return
        folders, files = self._store.level(folder)
        yield from (FileInfo(name, FileType.Directory) for name in folders)
        yield from map(_file, files)

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
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.BufferReader(self._store.get(self.normalize_path(path)))

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        return pa.PythonFile(_Whole(self._store, self.normalize_path(path)), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        raise NotImplementedError("files are written whole")


class _Whole(io.BytesIO):
    """A file that is put to the store when it is closed, if it came to its end."""

    def __init__(self, store: Store, key: str) -> None:
        super().__init__()
        self._store, self._key = store, key

    def close(self) -> None:
        # A writer that fails closes its file too; a Parquet file says at its end that it is whole.
        if not self.closed:
            data = self.getvalue()
            super().close()
            if not self._key.endswith(_PARQUET) or data[_LEAST_BYTES:].endswith(_MAGIC):
                self._store.put(self._key, data)


def _file(stat: Stat) -> FileInfo:
    return FileInfo(stat.key, FileType.File, size=stat.size)
