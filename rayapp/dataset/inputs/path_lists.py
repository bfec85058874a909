"""Lists of paths, as people have them: text, CSV or Parquet; and where their paths start."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from rayapp.config.errors import UserError
from rayapp.config.paths import absolute_uri
from rayapp.dataset.clutter import clutter_kind
from rayapp.dataset.formats import SUFFIXES as IMAGE_SUFFIXES
from rayapp.storage.store import Store
from rayapp.storage.uris import BUCKETS, open_store, read_uri, split_uri

if TYPE_CHECKING:
    from rayapp.dataset.labels import LabelScheme

# Names under which datasets keep paths, best first.
_PATH_COLUMNS = (
    "path",
    "file_path",
    "filepath",
    "image_path",
    "img_path",
    "file_name",
    "filename",
    "file",
    "image",
    "img",
    "uri",
    "key",
)
_LOOKED_AT = 5  # paths of a list, before it is refused as a whole
_DELIMITERS = ",;\t|"


def read_text(uri: str) -> str:
    """A list's text.

    Raises:
        UserError: no such file, or not UTF-8.
    """
    try:
        return read_uri(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{uri}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def is_annotated(text: str, scheme: LabelScheme) -> bool:
    """Whether lines end in a label's code: an annotation list, else a list of paths."""
    cut = re.escape(scheme.separator)
    coded = re.compile(rf"(?:{cut}|\.\w{{2,5}}[,;\s])\d{{1,9}}\s*$", re.MULTILINE)
    return coded.search(text) is not None


def paths_of_text(text: str) -> list[str]:
    """One path a line."""
    return [line.strip() for line in text.split("\n") if line.strip()]


def paths_of_csv(uri: str, column: str | None) -> list[str]:
    """The paths in one column of a CSV file, found by its name or named.

    A file of one column needs no header.

    Raises:
        UserError: no such column, or none that is known to hold paths.
    """
    text = read_text(uri)
    head = text.partition("\n")[0]
    cut = max(_DELIMITERS, key=head.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=cut) if row]
    except csv.Error as error:
        raise UserError(f"{uri}: not a CSV file: {error}") from None
    if not rows:
        return []
    names, body = rows[0], rows[1:]
    if len(names) == 1 and column is None and names[0].lower().endswith(IMAGE_SUFFIXES):
        return [row[0].strip() for row in rows]
    at = path_column(uri, names, body[:1], column)
    return [row[at].strip() if len(row) > at else "" for row in body]


def paths_of_table(uri: str, table: pa.Table, column: str | None) -> list[str]:
    """The paths in one column of a Parquet table, as `paths_of_csv`."""
    texts = [
        field.name
        for field in table.schema
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    ]
    first = table.select(texts).slice(0, 1).to_pylist()
    at = path_column(uri, texts, [[one[name] or "" for name in texts] for one in first], column)
    return [path or "" for path in table[texts[at]].to_pylist()]


def path_column(
    uri: str, names: Sequence[str], first: Sequence[Sequence[str]], column: str | None
) -> int:
    """Which column holds paths: the one named, one with a usual name, or the one with files."""
    if column is not None:
        if column in names:
            return names.index(column)
        raise UserError(f"{uri}: has no column {column!r} of text (it has {', '.join(names)})")
    lower = [name.strip().lower() for name in names]
    for usual in _PATH_COLUMNS:
        if usual in lower:
            return lower.index(usual)
    files = [
        at
        for row in first
        for at, value in enumerate(row)
        if value.lower().endswith(IMAGE_SUFFIXES)
    ]
    if len(files) == 1:
        return files[0]
    raise UserError(
        f"{uri}: which column holds the paths? Say it with --column (it has {', '.join(names)})"
    )


def placed(uri: str, paths: Iterable[str], root: str | None) -> tuple[Store, list[str]]:
    """The store of a list's images, and the key of each in it.

    Relative paths start from `root`, or from the list's own folder; others from the folder that
    they share.

    Raises:
        UserError: addresses on the web, paths of several buckets, or none of the first is there.
    """
    base = absolute_uri(root) if root else split_uri(uri)[0].root
    paths = list(paths)
    inside = [posixpath.normpath(path) for path in paths]
    if all(not _is_placed(path) and not path.startswith("../") for path in inside):
        store = open_store(base)
        if root is None:
            _check_some_are_there(uri, store, inside)
        return store, inside
    whole = [_whole(uri, path, base) for path in paths]
    shared = base.rstrip("/")
    if root is None or not all(one.startswith(f"{shared}/") for one in whole):
        shared = _shared_folder(uri, whole)
    return open_store(shared or "/"), [one[len(shared) + 1 :] for one in whole]


def _is_placed(path: str) -> bool:
    return path.startswith(("/", "~")) or ":/" in path


def _whole(uri: str, path: str, base: str) -> str:
    scheme, is_uri, _ = path.partition("://")
    if is_uri and scheme not in (*BUCKETS, "file"):
        raise UserError(
            f"{uri}: {path}: {scheme} is not read from; fetch the files first and list their paths"
        )
    if _is_placed(path):
        return path if is_uri and scheme in BUCKETS else absolute_uri(path)
    if "://" in base:
        head, cut, rest = base.partition("://")
        return f"{head}{cut}{posixpath.normpath(f'{rest}/{path}')}"
    return os.path.normpath(os.path.join(base, path))


def _shared_folder(uri: str, whole: Sequence[str]) -> str:
    """The deepest folder that all are in."""
    ends = [one.split("/")[:-1] for one in (min(whole), max(whole))]
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*ends, strict=False))
    same = [name for name, _ in pairs]
    if any("://" in one for one in whole) and len(same) < 3:  # `s3:`, empty, bucket
        raise UserError(
            f"{uri}: names images on disk and in buckets, or in several buckets; "
            "make a list of each"
        )
    return "/".join(same)


def _check_some_are_there(uri: str, store: Store, keys: Sequence[str]) -> None:
    first = list(dict.fromkeys(keys))[:_LOOKED_AT]
    for key in first:
        with contextlib.suppress(OSError):  # no name of a file
            if store.stat(key):
                return
    others = ", nor are the paths after it" if len(first) > 1 else ""
    raise UserError(
        f"{uri}: {first[0]} is not below {store.root}{others}; "
        "give --root, the folder that the list's paths start from"
    )


def without_clutter(paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """The paths that may be images, and the kinds of those that are none."""
    kept, left_out = [], []
    for path in paths:
        kind = clutter_kind(path) if path else "without a path"
        left_out.append(kind) if kind else kept.append(path)
    return kept, left_out
