"""A table of images, CSV or Parquet, with what is known of each."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from rayapp.annotate.folder_layout import Labelled, made_by
from rayapp.annotate.words import CODES, Origin, origin_of, subset_of
from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.storage.uris import read_uri, split_uri

# What people call the columns; the first is our own word.
_NAMES = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image", "image_path"),
    "origin": ("origin", "label", "class", "target"),
    "generator": ("generator", "model"),
    "content": ("content",),
    "group": ("group",),
    "split": ("split", "subset"),
}


def from_table(uri: str) -> list[Labelled]:
    """The images of a CSV or Parquet table: path, origin; if there, what else `Labelled` has.

    Raises:
        UserError: no such columns, an origin that is none, an image twice.
    """
    if uri.endswith(".parquet"):
        rows = manifest.read_table(*split_uri(uri)).to_pylist()
    else:
        try:
            rows = list(csv.DictReader(io.StringIO(read_uri(uri).decode("utf-8-sig"))))
        except UnicodeDecodeError as error:
            raise UserError(f"{uri}: not UTF-8 text (byte {error.start})") from None
    if not rows:
        raise UserError(f"{uri}: holds no row")
    columns = _columns(rows[0])
    found: dict[str, Labelled] = {}
    for number, row in enumerate(rows, start=2):
        try:
            one = _labelled(row, columns)
        except UserError as error:
            raise UserError(f"{uri}:{number}: {error}") from None
        if found.setdefault(one.path, one) != one:
            raise UserError(f"{uri}:{number}: {one.path} stands before with other labels")
    return list(found.values())


def _columns(names: Iterable[Any]) -> dict[str, str]:
    """Our word → the table's column."""
    there = {str(name).strip().lower(): name for name in names if name is not None}
    found = {ours: next((n for n in theirs if n in there), "") for ours, theirs in _NAMES.items()}
    return {ours: there[name] for ours, name in found.items() if name}


def _labelled(row: Mapping[Any, Any], columns: Mapping[str, str]) -> Labelled:
    given = {ours: row.get(name) for ours, name in columns.items()}
    texts = {ours: "" if text is None else str(text).strip() for ours, text in given.items()}
    missing = [name for name in ("path", "origin") if not texts.get(name)]
    if missing:
        raise UserError(f"no {' and no '.join(missing)} (columns: {', '.join(map(str, row))})")
    subset = texts.get("split", "")
    if subset and not subset_of(subset):
        raise UserError(f"split {subset!r} is none of train, val, test")
    origin = _origin(texts["origin"], columns["origin"])
    return Labelled(
        texts["path"].removeprefix("./"),
        origin,
        made_by(origin, texts.get("generator", "")),
        texts.get("content", ""),
        texts.get("group", ""),
        subset,
    )


def _origin(text: str, column: str) -> Origin:
    origin = CODES.get(text) or origin_of(text)
    if origin is None:
        raise UserError(f"{column} {text!r} is none of real, synthetic (or nature, ai, fake …)")
    if text in CODES and column.lower() != "origin":
        # CIFAKE's own tables have it the other way round.
        raise UserError(
            f"{column} {text} may mean either: call the column origin where 0 is real "
            "and 1 synthetic, else write real and synthetic"
        )
    return origin
