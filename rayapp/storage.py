"""Files under a root URI, on local disk or S3, with the same few operations and guarantees.

A put arrives whole or not at all: locally a temporary file, fsync and rename; on S3 one
checksummed put. Keys are relative `/`-separated paths and can never leave the root.
"""

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from rayapp.errors import UserError

PARTIAL_SUFFIX = ".part"


@dataclass(frozen=True)
class Stat:
    """What is known of one stored object without reading it; `modified` in seconds since 1970."""

    key: str
    size: int
    etag: str
    modified: float


class Store(Protocol):
    """Files under one root; picklable, so that workers open the same root."""

    root: str

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Write `data` whole or not at all; False where `if_absent` and the key was there."""

    def get(self, key: str) -> bytes:
        """All bytes of `key`; FileNotFoundError where there is none."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """At most `length` bytes from offset `start`; shorter only at the end of the object."""

    def stat(self, key: str) -> Stat | None:
        """Size, etag and time of `key`, or None where there is none."""

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """Every object whose key starts with `prefix`, in key order within a folder."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the keys; a key that is not there is no error."""

    def uri(self, key: str = "") -> str:
        """The full URI of `key`."""


def open_store(uri: str | os.PathLike[str]) -> Store:
    """The store rooted at a local path, `file://…` or `s3://bucket/prefix`.

    Raises:
        UserError: another scheme, or an S3 URI without a bucket.
    """
    text = os.fspath(uri)
    if "://" not in text:
        return LocalStore(text)
    parts = urlsplit(text)
    if parts.scheme == "file":
        return LocalStore(parts.path)
    if parts.scheme != "s3":
        raise UserError(f"{text}: scheme {parts.scheme!r} is not known; give a path or s3://…")
    if not parts.netloc:
        raise UserError(f"{text}: names no bucket; write s3://bucket/prefix")
    from rayapp.s3 import S3Store

    return S3Store(parts.netloc, parts.path.strip("/"))


def split_uri(uri: str | os.PathLike[str]) -> tuple[Store, str]:
    """The store of a file's folder, and the file's key in it."""
    text = os.fspath(uri).rstrip("/")
    folder, _, name = text.rpartition("/")
    if "://" not in text:
        folder, name = os.path.split(os.path.abspath(os.path.expanduser(text)))
    if not name or folder.endswith(":/"):
        raise UserError(f"{text}: names no file")
    return open_store(folder), name


def read_uri(uri: str | os.PathLike[str]) -> bytes:
    """All bytes of one file.

    Raises:
        UserError: there is no such file, or it can't be read.
    """
    store, key = split_uri(uri)
    try:
        return store.get(key)
    except FileNotFoundError:
        raise UserError(f"{os.fspath(uri)}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{os.fspath(uri)}: is a folder, a file is wanted") from None
    except PermissionError:
        raise UserError(f"{os.fspath(uri)}: may not be read (permission denied)") from None


def absolute_uri(uri: str | os.PathLike[str]) -> str:
    """`uri` with a local path made absolute; Ray's workers run in other folders."""
    text = os.fspath(uri)
    return text if "://" in text else os.path.abspath(os.path.expanduser(text))


def check_key(key: str) -> str:
    """`key` itself, if it is relative and stays under its root.

    Raises:
        UserError: absolute, empty, with `..`, a backslash-free drive or a NUL.
    """
    parts = key.split("/")
    if not key or key.startswith("/") or "\0" in key or any(p in {"", ".", ".."} for p in parts):
        raise UserError(f"{key!r}: not a relative path under the root")
    return key


class LocalStore:
    """Files under a local folder."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))

    def _path(self, key: str) -> Path:
        return Path(self.root, check_key(key))

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Write through a temporary file, fsync and rename (or link, to create only)."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not derived from the file's name: a name may already be as long as the file system takes.
        partial = path.parent / f".{os.getpid()}-{secrets.token_hex(6)}{PARTIAL_SUFFIX}"
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if not if_absent:
                partial.replace(path)
                return True
            try:
                os.link(partial, path)
            except FileExistsError:
                return False
            return True
        finally:
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()

    def get(self, key: str) -> bytes:
        """All bytes of the file."""
        return self._path(key).read_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Bytes `start … start + length - 1`, fewer at the end of the file."""
        with self._path(key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def stat(self, key: str) -> Stat | None:
        """Size and time; the etag changes with every replacement (inode, time and size)."""
        try:
            return _local_stat(key, self._path(key).stat())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """Every regular file below the root; symbolic links to folders are not followed."""
        folder, _, start = prefix.rpartition("/")
        if folder:
            check_key(folder)
        yield from self._walk(folder, start)

    def _walk(self, folder: str, start: str = "") -> Iterator[Stat]:
        try:
            entries = sorted(os.scandir(Path(self.root, folder)), key=lambda e: e.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if not entry.name.startswith(start) or entry.name.endswith(PARTIAL_SUFFIX):
                continue
            key = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(key)
            elif entry.is_file():
                yield _local_stat(key, entry.stat())

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the files, and the folders that this empties, as on S3."""
        for key in keys:
            path = self._path(key)
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty: it stays
                for folder in path.relative_to(self.root).parents[:-1]:
                    Path(self.root, folder).rmdir()

    def uri(self, key: str = "") -> str:
        """The absolute path."""
        return os.path.join(self.root, check_key(key)) if key else self.root


def _local_stat(key: str, found: os.stat_result) -> Stat:
    etag = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
    return Stat(key, found.st_size, etag, found.st_mtime)
