"""Annotation lists: label schemes, reading with every defect named, writing.

A list is text, one image a line: `path,origin,content,generator,model` in the published format.
A label scheme (`annotations/NAME.yaml`) names the columns, their codes, and how a line is cut.
"""

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from rayapp.errors import UserError
from rayapp.resources import resource
from rayapp.settings import Settings, parse_yaml
from rayapp.storage import Store, read_uri

_SHOWN_DEFECTS = 5


class Rule(Settings):
    """Labels that go together: where all of `when` hold, each column of `then` takes these."""

    when: dict[str, int] = Field(description="column: code")
    then: dict[str, list[int]] = Field(description="column: codes allowed")


class LabelScheme(Settings):
    """Columns of an annotation list and the meaning of their codes."""

    name: str = Field(description="the scheme's name")
    separator: str = Field(",", min_length=1, max_length=1, description="between columns")
    columns: dict[str, dict[int, str]] = Field(description="column: {code: meaning}, in order")
    optional: int = Field(0, ge=0, description="so many columns at the end may be left out")
    rules: list[Rule] = Field([], description="labels that go together")

    def names(self, column: str) -> dict[int, str]:
        """Code → meaning of one column."""
        return self.columns[column]

    def fault(self, labels: tuple[int, ...]) -> str | None:
        """What is wrong with the labels of one line, or None."""
        given = dict(zip(self.columns, labels, strict=False))
        for column, code in given.items():
            if code not in self.columns[column]:
                known = ", ".join(f"{k} {v}" for k, v in self.columns[column].items())
                return f"{column} {code} is not a code of {self.name} (known: {known})"
        for rule in self.rules:
            if all(given.get(column) == code for column, code in rule.when.items()):
                for column, allowed in rule.then.items():
                    if column in given and given[column] not in allowed:
                        cause = " and ".join(f"{c} {v}" for c, v in rule.when.items())
                        return f"{cause} contradicts {column} {given[column]}"
        return None


def load_scheme(name_or_path: str) -> LabelScheme:
    """The label scheme `annotations/NAME.yaml`, or a user's own file.

    Raises:
        UserError: no such scheme, or a wrong one, named by file, line and key.
    """
    return parse_yaml(resource("annotations", name_or_path), LabelScheme)


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a list; labels in the scheme's column order, ids unique within a list."""

    id: str
    path: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Defect:
    """One wrong line (1-based) of a list."""

    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class AnnotationList:
    """A list that was read; `defects` are the lines that were not taken."""

    source: str
    scheme: LabelScheme
    items: list[Item]
    defects: list[Defect] = field(default_factory=list)

    def column(self, name: str) -> list[int]:
        """The codes of one column, item by item."""
        at = list(self.scheme.columns).index(name)
        return [item.labels[at] for item in self.items]


def item_id(path: str) -> str:
    """The id of an annotated path: NFC, `/`-separated, without leading `./`."""
    text = unicodedata.normalize("NFC", path)
    while text.startswith("./"):
        text = text[2:].lstrip("/")
    return text


def path_fault(path: str) -> str | None:
    """Why a path may not stand in a list (it could leave the root), or None."""
    if not path or path.endswith("/"):
        return "no file name"
    if path.startswith(("/", "~")) or (len(path) > 2 and path[1] == ":" and path[2] in "/\\"):
        return f"absolute path {path!r}; paths are relative to the root"
    if "\\" in path:
        return f"path {path!r} has a backslash; '/' separates folders"
    if ".." in path.split("/"):
        return f"path {path!r} leaves the root by '..'"
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        return f"path {path!r} has a control character"
    return None


def read_list(
    uri: str | os.PathLike[str],
    scheme: LabelScheme,
    *,
    on_defect: Literal["raise", "collect"] = "raise",
) -> AnnotationList:
    """Read one annotation list.

    Repeated paths with equal labels are kept, the k-th repeat with id `path#k`.

    Raises:
        UserError: no such file, wrong encoding, empty; or, unless `on_defect="collect"`, any
            defect: the first ones stand in the line with file, line number and reason.
    """
    source = os.fspath(uri)
    try:
        text = read_uri(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{source}: not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from None
    parsed = parse_list(text, scheme, source)
    if parsed.defects and on_defect == "raise":
        shown = "; ".join(str(defect) for defect in parsed.defects[:_SHOWN_DEFECTS])
        more = len(parsed.defects) - _SHOWN_DEFECTS
        raise UserError(shown + (f"; and {more} more defects" if more > 0 else ""))
    if not parsed.items and not parsed.defects:
        raise UserError(f"{source}: holds no item")
    return parsed


def parse_list(text: str, scheme: LabelScheme, source: str = "list") -> AnnotationList:
    """The items and the defects of a list's text."""
    items: list[Item] = []
    defects: list[Defect] = []
    labels_of: dict[str, tuple[int, ...]] = {}
    repeats: dict[str, int] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.rstrip("\r")
        if not line.strip():
            continue
        parsed = _parse_line(line, scheme)
        if isinstance(parsed, str):
            defects.append(Defect(source, number, parsed))
            continue
        path, labels = parsed
        identity = item_id(path)
        if labels_of.setdefault(identity, labels) != labels:
            reason = f"{path} stands before with other labels {labels_of[identity]}, here {labels}"
            defects.append(Defect(source, number, reason))
            continue
        repeat = repeats[identity] = repeats.get(identity, -1) + 1
        items.append(Item(f"{identity}#{repeat}" if repeat else identity, path, labels))
    return AnnotationList(source, scheme, items, defects)


def _parse_line(line: str, scheme: LabelScheme) -> tuple[str, tuple[int, ...]] | str:
    """(path, labels), or the reason why the line is wrong."""
    # From the right: names of files may hold the separator. The full form is tried first, then
    # the shorter ones that the scheme allows.
    wanted = len(scheme.columns)
    for count in range(wanted, wanted - scheme.optional - 1, -1):
        path, *codes = line.rsplit(scheme.separator, count)
        if len(codes) == count and all(code.isdecimal() for code in codes):
            labels = tuple(int(code) for code in codes)
            return path_fault(path) or scheme.fault(labels) or (path, labels)
    found = line.count(scheme.separator) + 1
    form = scheme.separator.join(["path", *scheme.columns])
    if found < wanted + 1 - scheme.optional:
        return f"{found} columns, {wanted + 1} wanted ({form})"
    return f"codes must be whole numbers ({form}), got {line[-60:]!r}"


def read_lists(uris: Iterable[str], scheme: LabelScheme) -> list[AnnotationList]:
    """Several lists; the same path in two of them must carry the same labels.

    Raises:
        UserError: as `read_list`, or a path with other labels in another list.
    """
    lists = [read_list(uri, scheme) for uri in uris]
    seen: dict[str, tuple[tuple[int, ...], str]] = {}
    for one in lists:
        for item in one.items:
            labels, source = seen.setdefault(item_id(item.path), (item.labels, one.source))
            if labels != item.labels:
                raise UserError(
                    f"{item.path}: labels {item.labels} in {one.source}, {labels} in {source}"
                )
    return lists


def format_list(items: Iterable[Item], scheme: LabelScheme) -> str:
    """The text of a list, one item a line.

    Raises:
        UserError: an item that could not be read back.
    """
    lines = []
    for item in items:
        fault = path_fault(item.path) or scheme.fault(item.labels)
        if fault:
            raise UserError(f"{item.path}: {fault}")
        lines.append(scheme.separator.join([item.path, *map(str, item.labels)]))
    return "".join(f"{line}\n" for line in lines)


def write_list(store: Store, key: str, items: Iterable[Item], scheme: LabelScheme) -> None:
    """Write a list whole or not at all."""
    store.put(key, format_list(items, scheme).encode())
