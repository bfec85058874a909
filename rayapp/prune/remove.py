"""Removing what is to go, or moving it away; never through a link, never outside the root.

Every folder on the way is opened by itself without following links, and files are removed relative
to it: a folder that was replaced by a link since that was decided is refused.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from rayapp.config.errors import UserError
from rayapp.run import row_work
from rayapp.storage.s3 import S3Store
from rayapp.storage.store import LocalStore, Store

_THREADS = 16  # copies that wait for S3
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class RemoveRows:
    """Row work: each file removed, or moved under `trash` at its own path.

    A file that has gone is done; one that is of another size than it was is left and fails.
    """

    root: Store
    trash: Store | None
    _threads: ThreadPoolExecutor | None = field(default=None, init=False)

    def setup(self) -> None:
        """Copies inside S3 wait for their answers."""
        self._threads = ThreadPoolExecutor(_THREADS)

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """The rows with what became of them."""
        if not isinstance(self.root, LocalStore):
            return self._in_store(batch)
        done: list[row_work.Row] = []
        for folder, files in groupby(batch, lambda row: os.path.dirname(_path(row))):
            done += self._in_folder(self.root, folder, list(files))
        return done

    def _in_folder(
        self, root: LocalStore, folder: bytes, files: Sequence[row_work.Row]
    ) -> list[row_work.Row]:
        try:
            with opened(root, folder) as at:
                return row_work.each(files, lambda row: self._one(root, at, row))
        except FileNotFoundError:
            return row_work.each(files, lambda row: {})
        except OSError as error:
            refused = UserError(f"{os.fsdecode(folder)}: no folder any more ({error.strerror})")
            return row_work.each(files, lambda row: _raise(refused))

    def _one(self, root: LocalStore, at: int, row: row_work.Row) -> row_work.Row:
        name = os.path.basename(_path(row))
        try:
            found = os.stat(name, dir_fd=at, follow_symlinks=False)
        except FileNotFoundError:
            return {}
        if found.st_size != row["bytes"]:
            raise UserError(f"changed since: {row['bytes']:,} bytes then, {found.st_size:,} now")
        if self.trash is None:
            os.unlink(name, dir_fd=at)
        elif isinstance(self.trash, LocalStore):
            _move(at, name, self.trash, _path(row), found)
        elif not stat.S_ISREG(found.st_mode) or row["raw"]:
            raise UserError("is no plain file of a Unicode name: it can't be kept in a bucket")
        else:
            with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=at), "rb") as file:
                _keep(self.trash, row["path"], file.read())
            os.unlink(name, dir_fd=at)
        return {}

    def _in_store(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """Objects: kept aside one by one where wanted, then removed in one request."""
        done = row_work.each(batch, self._copied, self._threads) if self.trash else list(batch)
        kept = [row["path"] for row in done if row.get("status", "ok") == "ok"]
        self.root.delete(kept)
        return [{"status": "ok", "error": "", **row} for row in done]

    def _copied(self, row: row_work.Row) -> row_work.Row:
        assert self.trash is not None
        found = self.root.stat(row["path"])
        if found is None:
            return {}
        if isinstance(self.trash, S3Store) and isinstance(self.root, S3Store):
            before = self.trash.stat(row["path"])
            if before is None or (before.size, before.etag) != (found.size, found.etag):
                self.root.copy(row["path"], self.trash, _free(self.trash, row["path"]))
        else:
            _keep(self.trash, row["path"], self.root.get(row["path"]))
        return {}


def _path(row: row_work.Row) -> bytes:
    return bytes(row["raw"]) if row["raw"] else os.fsencode(row["path"])


def _raise(error: Exception) -> Any:
    raise error


@contextmanager
def opened(root: LocalStore, folder: bytes) -> Iterator[int]:
    """A folder under the root, opened step by step; OSError where a step is a link."""
    at = os.open(root.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folder.split(b"/") if folder else ():
            deeper = os.open(part, _FOLDER_FLAGS, dir_fd=at)
            os.close(at)
            at = deeper
        yield at
    finally:
        os.close(at)


def _move(at: int, name: bytes, trash: LocalStore, path: bytes, found: os.stat_result) -> None:
    """To the same path under the trash; what lies there already is never overwritten."""
    target = os.path.join(os.fsencode(trash.root), path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    number, free = 0, target
    while os.path.lexists(free):
        number += 1
        free = target + b"~%d" % number
    try:
        os.rename(name, free, src_dir_fd=at)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_far(at, name, trash, target, found)


def _move_far(at: int, name: bytes, trash: LocalStore, target: bytes, found: Any) -> None:
    """The same to another file system: the copy is whole and on disk before the file goes."""
    if stat.S_ISLNK(found.st_mode):
        with suppress(FileExistsError):
            os.symlink(os.readlink(name, dir_fd=at), target)
    elif stat.S_ISREG(found.st_mode):
        with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=at), "rb") as file:
            key = os.fsdecode(os.path.relpath(target, os.fsencode(trash.root)))
            _keep(trash, key, file.read())
    else:
        raise UserError("is no plain file: it can't be moved to another file system")
    os.unlink(name, dir_fd=at)


def _keep(trash: Store, key: str, data: bytes) -> None:
    """Put what is to go into the trash, beside what lies there under the same name."""
    before = trash.stat(key)
    if before is not None and before.size == len(data) and trash.get(key) == data:
        return  # a try before this one was cut off in between
    trash.put(_free(trash, key), data)


def _free(trash: Store, key: str) -> str:
    number, free = 0, key
    while trash.stat(free) is not None:
        number += 1
        free = f"{key}~{number}"
    return free


def remove_empty_folders(root: LocalStore, own: Sequence[str] = ()) -> int:
    """Remove every empty folder below the root, deepest first; links are not followed."""
    removed = 0
    start = os.fsencode(root.root)
    for folder, folders, _, at in os.fwalk(start, topdown=False, follow_symlinks=False):
        for name in folders:
            path = os.fsdecode(os.path.relpath(os.path.join(folder, name), start))
            if any(one.startswith(f"{path}/") for one in own):
                continue
            with suppress(OSError):  # not empty, or a link: it stays
                os.rmdir(name, dir_fd=at)
                removed += 1
    return removed
