"""What lies under a root: every file with its size, folder by folder; links are never followed.

Names are joined to paths and sizes to columns by Arrow: per file Python only reads the folder's
entry and asks for its size.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayapp.config.errors import UserError
from rayapp.storage.store import LocalStore, Stat, Store

LINK, DEAD_LINK, FOLDER_LINK = "link", "dead link", "folder link"
# `kind` is null for a plain file; `raw` holds the bytes of a path that is not UTF-8.
WALKED = pa.schema(
    {"path": pa.string(), "bytes": pa.int64(), "kind": pa.string(), "raw": pa.binary()}
)


@dataclass(frozen=True)
class Level:
    """One folder: the files directly in it, and its subfolders as paths under the root."""

    files: pa.Table
    folders: list[str]


def split(root: Store, enough: int = 64) -> tuple[pa.Table, list[str]]:
    """The first levels of a tree: their files, and enough folders to be walked side by side.

    Raises:
        UserError: a local root that is no folder.
    """
    if isinstance(root, LocalStore) and not os.path.isdir(root.root):
        raise UserError(f"{root.root}: --root is no folder")
    files, todo = [], [""]
    while todo and len(todo) < enough:
        found = level(root, todo.pop(0))
        files.append(found.files)
        todo += found.folders
    return pa.concat_tables([WALKED.empty_table(), *files]), todo


def level(root: Store, folder: str) -> Level:
    """The files and folders directly in one folder; a folder that has gone has none."""
    if isinstance(root, LocalStore):
        return _Scan(root.root).level(folder)
    folders, files = root.level(folder)
    return Level(_table(files), list(folders))


def walk(root: Store, folder: str) -> pa.Table:
    """Every file below one folder (`WALKED`), in no order."""
    if isinstance(root, LocalStore):
        scan = _Scan(root.root)
        todo = [folder]
        while todo:
            todo += scan.read(todo.pop())
        return scan.table()
    return _table(root.list(f"{folder}/" if folder else ""))


def _table(stats: Iterable[Stat]) -> pa.Table:
    pairs = [(stat.key, stat.size) for stat in stats]
    paths = pa.array([path for path, _ in pairs], pa.string())
    return _filled(paths, pa.array([size for _, size in pairs], pa.int64()), {})


def _filled(paths: pa.Array, sizes: pa.Array, kinds: dict[int, str]) -> pa.Table:
    kind = pa.nulls(len(paths), pa.string())
    if kinds:
        kind = pa.array([kinds.get(at) for at in range(len(paths))], pa.string())
    return pa.table([paths, sizes, kind, pa.nulls(len(paths), pa.binary())], schema=WALKED)


class _Scan:
    """Local folders read one after another; their files are kept as columns."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._folders: list[str] = []
        self._counts: list[int] = []
        self._names: list[str] = []
        self._sizes: list[int] = []
        self._kinds: dict[int, str] = {}

    def level(self, folder: str) -> Level:
        """One folder alone."""
        folders = self.read(folder)
        return Level(self.table(), folders)

    def read(self, folder: str) -> list[str]:
        """Keep the files of a folder; its subfolders."""
        names, sizes, folders = self._names, self._sizes, []
        before, prefix = len(names), f"{folder}/" if folder else ""
        try:
            with os.scandir(os.path.join(self._root, folder)) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(prefix + entry.name)
                        continue
                    try:
                        size = entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:  # removed while we read
                        continue
                    if entry.is_symlink():
                        self._kinds[len(names)] = _link(entry)
                    names.append(entry.name)
                    sizes.append(size)
        except (FileNotFoundError, NotADirectoryError):
            return []
        self._folders.append(prefix)
        self._counts.append(len(names) - before)
        return folders

    def table(self) -> pa.Table:
        """All files read so far."""
        if not self._names:
            return WALKED.empty_table()
        try:
            folders, names = pa.array(self._folders), pa.array(self._names)
        except UnicodeEncodeError:
            return self._table_with_raw()
        of = pa.array(np.repeat(np.arange(len(self._counts)), self._counts))
        paths = pc.binary_join_element_wise(folders.take(of), names, "")
        return _filled(paths, pa.array(self._sizes, pa.int64()), self._kinds)

    def _table_with_raw(self) -> pa.Table:
        """The same, where a name is not UTF-8: its path is shown with escapes, `raw` has it."""
        folders = np.repeat(np.array(self._folders, object), self._counts)
        encoded = [os.fsencode(f + n) for f, n in zip(folders, self._names, strict=True)]
        shown = [one.decode("utf-8", "backslashreplace") for one in encoded]
        raw = [
            None if text.encode() == one else one for text, one in zip(shown, encoded, strict=True)
        ]
        table = _filled(pa.array(shown), pa.array(self._sizes, pa.int64()), self._kinds)
        return table.set_column(3, "raw", pa.array(raw, pa.binary()))


def _link(entry: "os.DirEntry[str]") -> str:
    try:
        return FOLDER_LINK if entry.is_dir() else LINK if entry.is_file() else DEAD_LINK
    except OSError:  # a ring of links
        return DEAD_LINK
