"""Parquet files in a store, of which is read what is asked for."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rayapp.config.errors import UserError
from rayapp.storage.store import Stat, Store

_WHOLE_BYTES = 1 << 20  # a request takes longer than so many bytes more


class StoredFile(io.RawIOBase):
    """An object of a store as a file that is read by ranges."""

    def __init__(self, store: Store, key: str, size: int) -> None:
        """At its start."""
        self._store, self._key, self._size, self._at = store, key, size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, as far as there is something left."""
        length = max(min(len(buffer), self._size - self._at), 0)
        data = self._store.get_range(self._key, self._at, length) if length else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def open_parquet(store: Store, file: Stat) -> pq.ParquetFile:
    """A Parquet file: small ones read at once, of others the end alone until rows are asked for.

    Raises:
        UserError: it is none, or a damaged one.
    """
    try:
        if file.size <= _WHOLE_BYTES:
            return pq.ParquetFile(pa.BufferReader(store.get(file.key)))
        return pq.ParquetFile(pa.PythonFile(StoredFile(store, file.key, file.size), mode="r"))
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{store.uri(file.key)}: not a Parquet file, or a damaged one: {why}"
        ) from None
