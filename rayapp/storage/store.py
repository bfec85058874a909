"""Files under a root URI, on disk or in a bucket, with the same few operations and guarantees.

A put arrives whole or not at all: locally a temporary file, fsync and rename; in a bucket one
checksummed put. Keys are relative `/`-separated paths and can never leave the root.
"""

import contextlib
import errno
import functools
import hashlib
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from rayapp.config.errors import UserError
from rayapp.storage.disk import naming

PARTIAL_SUFFIX = ".part"
_COPY_BYTES = 1 << 20
_made_here: set[Path] = set()  # folders of roots that this process made, and may remove again


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

    def put(self, key: str, data: bytes | BinaryIO, *, if_absent: bool = False) -> bool:
        """Write `data`, bytes or an open file from its start, whole or not at all.

        False where `if_absent` and the key was there.
        """

    def get(self, key: str) -> bytes:
        """All bytes of `key`; FileNotFoundError where there is none."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """At most `length` bytes from offset `start`; shorter only at the end of the object."""

    def stat(self, key: str) -> Stat | None:
        """Size, etag and time of `key`, or None where there is none."""

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """Every object whose key starts with `prefix`, in key order within a folder."""

    def level(self, folder: str) -> tuple[Sequence[str], Sequence[Stat]]:
        """The folders and the objects directly in a folder (empty: the root)."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the keys; a key that is not there is no error."""

    def sweep(self, before: float) -> None:
        """Remove what killed puts left behind before a time (seconds since 1970)."""

    def uri(self, key: str = "") -> str:
        """The full URI of `key`."""


def check_key(key: str) -> str:
    """`key` itself, if it is relative and stays under its root.

    Raises:
        UserError: empty, absolute, with an empty, `.` or `..` part, or with a NUL.
    """
    parts = key.split("/")
    if not key or key.startswith("/") or "\0" in key or any(p in {"", ".", ".."} for p in parts):
        raise UserError(f"{key!r}: not a relative path under the root")
    return key


def check_prefix(prefix: str) -> str:
    """`prefix` itself, if its folder stays under the root; UserError as `check_key`."""
    folder, slash, _ = prefix.rpartition("/")
    if slash:
        check_key(folder)
    return prefix


class LocalStore:
    """Files under a local folder."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(os.path.expanduser(root))

    def _path(self, key: str) -> Path:
        return Path(self.root, check_key(key))

    def put(self, key: str, data: bytes | BinaryIO, *, if_absent: bool = False) -> bool:
        """Write through a temporary file, fsync and rename (or link, to create only)."""
        path = self._path(key)
        with naming(path):
            return self._put(path, data, if_absent)

    def _put(self, path: Path, data: bytes | BinaryIO, if_absent: bool) -> bool:
        root = Path(self.root)
        if not root.exists():
            _made_here.update(one for one in (root, *root.parents) if not one.exists())
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not derived from the file's name: a name may already be as long as the file system takes.
        partial = path.parent / f".{writer()}-{secrets.token_hex(6)}{PARTIAL_SUFFIX}"
        try:
            with partial.open("wb") as file:
                if isinstance(data, bytes):
                    file.write(data)
                else:
                    data.seek(0)
                    shutil.copyfileobj(data, file, _COPY_BYTES)
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
        with self._open(key) as file:
            return file.read()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Bytes `start … start + length - 1`, fewer at the end of the file."""
        with self._open(key) as file:
            file.seek(start)
            return file.read(max(length, 0))

    def _open(self, key: str) -> BinaryIO:
        try:
            return self._path(key).open("rb")
        except NotADirectoryError:  # a file stands where the key has a folder: no such key
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key) from None

    def stat(self, key: str) -> Stat | None:
        """Size and time; the etag changes with every replacement (inode, time and size)."""
        try:
            found = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _local_stat(key, found) if stat.S_ISREG(found.st_mode) else None

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """Every regular file below the root; symbolic links to folders are not followed."""
        folder, _, start = check_prefix(prefix).rpartition("/")
        yield from (found for found in self._walk(folder, start) if found.size >= 0)

    def list_with_dead_links(self) -> Iterator[Stat]:
        """As `list`, and the symbolic links that lead nowhere: their size is -1."""
        yield from self._walk("")

    def _walk(self, folder: str, start: str = "") -> Iterator[Stat]:
        for found in self._entries(folder, start):
            if isinstance(found, Stat):
                yield found
            else:
                yield from self._walk(found)

    def _entries(self, folder: str, start: str = "") -> Iterator[Stat | str]:
        """The files and dead links of a folder, and its subfolders as keys, by name."""
        try:
            entries = sorted(os.scandir(Path(self.root, folder)), key=lambda e: e.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if not entry.name.startswith(start) or _is_partial(entry.name):
                continue
            key = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield key
                continue
            try:
                leads_to = entry.stat()
            except OSError:
                if entry.is_symlink():  # else it was deleted while we list
                    yield Stat(key, -1, "", 0.0)
                continue
            if stat.S_ISREG(leads_to.st_mode):
                yield _local_stat(key, leads_to)

    def level(self, folder: str) -> tuple[Sequence[str], Sequence[Stat]]:
        """The folders and the regular files directly in a folder, as `list` sees them."""
        found = list(self._entries(folder))
        folders = [one for one in found if isinstance(one, str)]
        return folders, [one for one in found if isinstance(one, Stat) and one.size >= 0]

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the files, and the folders that this empties, but a root that was there before."""
        root = Path(self.root)
        for key in keys:
            path = self._path(key)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
            with contextlib.suppress(OSError):  # not empty: it stays
                for folder in path.parents:
                    if root not in folder.parents and folder not in _made_here:
                        break
                    folder.rmdir()
                    _made_here.discard(folder)

    def sweep(self, before: float) -> None:
        """Remove the temporary files of killed puts: of dead processes of this machine, and old."""
        for folder, _, names in os.walk(self.root):
            for path in (Path(folder, name) for name in names if _is_partial(name)):
                with contextlib.suppress(FileNotFoundError):  # another job sweeps too
                    if path.stat().st_mtime < before or is_gone(path.name.removeprefix(".")):
                        path.unlink()

    def uri(self, key: str = "") -> str:
        """The absolute path."""
        return os.path.join(self.root, check_key(key)) if key else self.root


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.endswith(PARTIAL_SUFFIX)


@functools.cache
def _machine() -> str:
    """Tells this machine's process numbers from those of others that share a file system."""
    name = socket.gethostname()
    with contextlib.suppress(OSError):  # containers count from 1, each for itself
        name += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def writer() -> str:
    """This process, as it signs what it writes: its number and its machine."""
    return f"{os.getpid()}-{_machine()}"


def is_gone(name: str) -> bool:
    """Whether what begins with a writer's signature is of a process of this machine that ended."""
    process, _, rest = name.partition("-")
    if not rest.startswith(_machine()) or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _local_stat(key: str, found: os.stat_result) -> Stat:
    etag = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
    return Stat(key, found.st_size, etag, found.st_mtime)
