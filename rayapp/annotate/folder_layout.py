"""What the place of a file, or a row of a table, says of an image: origin, generator, content."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.labels import LabelScheme, item_id, path_fault
from rayapp.storage.uris import read_uri

Origin = Literal["real", "synthetic"]
REAL: Origin = "real"
SYNTHETIC: Origin = "synthetic"
_WORDS = {"real": REAL, "0": REAL, "synthetic": SYNTHETIC, "fake": SYNTHETIC, "ai": SYNTHETIC,
          "generated": SYNTHETIC, "1": SYNTHETIC}  # fmt: skip
_NAMED = {"GENERATOR": "generator", "CONTENT": "content"}
_ANY = "*"


@dataclass(frozen=True)
class Labelled:
    """One image with what is known of it; empty where it is not known."""

    path: str
    origin: Origin
    generator: str
    content: str = ""
    group: str = ""


@dataclass(frozen=True)
class Pattern:
    """Folders from the root on: names, `*`, GENERATOR or CONTENT; files lie anywhere below."""

    folders: tuple[str, ...]
    origin: Origin

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """`real`, `synthetic/GENERATOR`, `photos/CONTENT=real`.

        Raises:
            UserError: a pattern that does not say the origin.
        """
        path, _, origin = text.partition("=")
        folders = tuple(path.strip("/ ").split("/"))
        word = origin.strip() or next((f for f in folders if f.lower() in _WORDS), "")
        if not word and "GENERATOR" in folders:
            word = SYNTHETIC
        if word.lower() not in _WORDS or not all(folders):
            raise UserError(
                f"--layout {text!r}: say the origin by a folder real or synthetic, or by "
                "=real or =synthetic behind it"
            )
        return cls(folders, _WORDS[word.lower()])

    def match(self, path: str) -> Labelled | None:
        """What a path under the root says, or None where it is not of this pattern."""
        parts = path.split("/")[:-1]
        if len(parts) < len(self.folders):
            return None
        found = {"generator": "", "content": ""}
        for wanted, part in zip(self.folders, parts, strict=False):
            if wanted in _NAMED:
                found[_NAMED[wanted]] = part
            elif wanted not in {part, _ANY}:
                return None
        return Labelled(path, self.origin, _maker(self.origin, found["generator"]),
                        found["content"])  # fmt: skip


def _maker(origin: Origin, generator: str) -> str:
    return REAL if origin == REAL else generator or SYNTHETIC


def parse_layout(text: str) -> list[Pattern]:
    """Patterns, parted by commas; the first that fits a file counts."""
    return [Pattern.parse(one) for one in text.split(",") if one.strip()]


def by_layout(
    paths: Iterable[str], patterns: Sequence[Pattern]
) -> tuple[list[Labelled], list[str]]:
    """The labelled images, and the paths that are of no pattern."""
    found, other = [], []
    for path in paths:
        matches = (pattern.match(path) for pattern in patterns)
        one = next((match for match in matches if match), None)
        found.append(one) if one else other.append(path)
    return found, other


def from_table(uri: str) -> list[Labelled]:
    """The images of a CSV or Parquet table: path, origin; if there, generator, content, group.

    Raises:
        UserError: no such columns, an origin that is none, an image twice.
    """
    if uri.endswith(".parquet"):
        rows = manifest.read_table_uri(uri).to_pylist()
    else:
        try:
            rows = list(csv.DictReader(io.StringIO(read_uri(uri).decode("utf-8-sig"))))
        except UnicodeDecodeError as error:
            raise UserError(f"{uri}: not UTF-8 text (byte {error.start})") from None
    found: dict[str, Labelled] = {}
    for number, row in enumerate(rows, start=2):
        try:
            one = _labelled(row)
        except UserError as error:
            raise UserError(f"{uri}:{number}: {error}") from None
        if found.setdefault(one.path, one) != one:
            raise UserError(f"{uri}:{number}: {one.path} stands before with other labels")
    if not found:
        raise UserError(f"{uri}: holds no row")
    return list(found.values())


def _labelled(row: dict[str, Any]) -> Labelled:
    missing = [name for name in ("path", "origin") if row.get(name) in (None, "")]
    if missing:
        raise UserError(f"no {' and no '.join(missing)} (columns: {', '.join(map(str, row))})")
    word = str(row["origin"]).strip().lower()
    if word not in _WORDS:
        raise UserError(f"origin {row['origin']!r} is none of {', '.join(_WORDS)}")
    texts = {k: str(row[k]).strip() if row.get(k) is not None else "" for k in _COLUMNS}
    path = str(row["path"]).removeprefix("./")
    origin = _WORDS[word]
    return Labelled(path, origin, _maker(origin, texts.pop("generator")), **texts)


_COLUMNS = ("generator", "content", "group")


def name_fault(path: str) -> str | None:
    """Why a file's name can't stand in a list, or None."""
    if item_id(path) != path:
        return "its name is not in the usual Unicode form (NFC): rename it"
    return path_fault(path)


def scheme_of(images: Sequence[Labelled], name: str) -> LabelScheme:
    """The label scheme of the images: origin, content where it is known, generator; real last."""
    makers = sorted({one.generator for one in images if one.origin == SYNTHETIC})
    if REAL in makers:
        raise UserError(f"a generator is called {REAL!r}; that name is for real images")
    contents = sorted({one.content for one in images})
    columns = {"origin": dict(enumerate(get_args(Origin)))}
    if contents != [""]:
        columns["content"] = {code: word or "unknown" for code, word in enumerate(contents)}
    columns["generator"] = dict(enumerate([*makers, REAL]))
    real = len(makers)
    rules: list[dict[str, Any]] = [{"when": {"origin": 0}, "then": {"generator": [real]}}]
    if makers:
        rules.append({"when": {"origin": 1}, "then": {"generator": list(range(real))}})
    return LabelScheme.model_validate({"name": name, "columns": columns, "rules": rules})


def labels_of(one: Labelled, scheme: LabelScheme) -> tuple[int, ...]:
    """The codes of an image."""
    words = {"origin": one.origin, "content": one.content or "unknown", "generator": one.generator}
    codes = {column: {w: code for code, w in names.items()} for column, names in
             scheme.columns.items()}  # fmt: skip
    return tuple(codes[column][words[column]] for column in scheme.columns)
