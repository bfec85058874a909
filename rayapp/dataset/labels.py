"""Annotation lists: label schemes, reading with every defect named, writing.

A list is text, one image a line: `path,origin,content,generator,model` in the published format.
A label scheme (`annotations/NAME.yaml`) names the columns, their codes, and how a line is cut.
"""

import functools
import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayapp.config.errors import UserError
from rayapp.config.packaged import resource
from rayapp.config.settings import Settings
from rayapp.config.yaml_files import parse_yaml
from rayapp.storage.store import Store
from rayapp.storage.uris import read_uri

_SHOWN_DEFECTS = 5
_CODE = re.compile(r"[0-9]{1,9}")
# The byte order mark is among them: one inside a list comes from joined files.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ufeff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # what a name that is not UTF-8 becomes

# Paths that need no look: ASCII, no part that starts with a dot, nothing that separates. Nearly all
# are so, and a million are read in seconds.
_PLAIN = r"((?:[A-Za-z0-9_-][A-Za-z0-9_.()-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.()-]*)"

Code = Annotated[int, Field(ge=0, le=32767)]


class Rule(Settings):
    """Labels that go together: where all of `when` hold, each column of `then` takes these."""

    when: dict[str, int] = Field(description="column: code")
    then: dict[str, list[int]] = Field(description="column: codes allowed")


class LabelScheme(Settings):
    """Columns of an annotation list and the meaning of their codes."""

    name: str = Field(description="the scheme's name")
    separator: str = Field(",", min_length=1, max_length=1, description="between columns")
    columns: dict[str, dict[Code, str]] = Field(description="column: {code: meaning}, in order")
    optional: int = Field(0, ge=0, description="so many columns at the end may be left out")
    rules: list[Rule] = Field([], description="labels that go together")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.optional > len(self.columns):
            raise ValueError(f"optional is {self.optional}, there are {len(self.columns)} columns")
        for rule in self.rules:
            for column, codes in [*((c, [v]) for c, v in rule.when.items()), *rule.then.items()]:
                unknown = set(codes) - self.columns.get(column, {}).keys()
                if unknown:
                    raise ValueError(f"a rule names {column} {min(unknown)}, which is not defined")
        return self

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
    """One line of a list; labels in the scheme's column order, ids unique within a list.

    `path` is as annotated, without leading `./`: the image's key under its root.
    """

    id: str
    path: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Defect:
    """One wrong line (1-based) of a list."""

    list_uri: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.list_uri}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class AnnotationList:
    """A list that was read; `defects` are the lines that were not taken."""

    list_uri: str
    scheme: LabelScheme
    items: list[Item]
    defects: list[Defect] = field(default_factory=list)

    def column(self, name: str) -> list[int]:
        """The codes of one column, item by item."""
        at = list(self.scheme.columns).index(name)
        return [item.labels[at] for item in self.items]


def item_id(path: str) -> str:
    """The id of an annotated path: NFC, `/`-separated, without leading `./`."""
    return unicodedata.normalize("NFC", _without_dot(path))


def _without_dot(path: str) -> str:
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    return path


def path_fault(path: str) -> str | None:
    """Why a path may not stand in a list (it could leave the root), or None."""
    if not path or path.endswith("/"):
        return "no file name"
    if path.startswith(("/", "~")) or (len(path) > 2 and path[1] == ":" and path[2] in "/\\"):
        return f"absolute path {path!r}; paths are relative to the root"
    if "\\" in path:
        return f"path {path!r} has a backslash; '/' separates folders"
    parts = path.split("/")
    if ".." in parts:
        return f"path {path!r} leaves the root by '..'"
    if "" in parts or "." in parts:
        return f"path {path!r} has an empty or '.' folder"
    if _CONTROL.search(path):
        return f"path {path!r} has a control character"
    if _SURROGATE.search(path):
        return f"path {path!r} is not Unicode text"
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
    list_uri = os.fspath(uri)
    try:
        text = read_uri(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{list_uri}: not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from None
    parsed = parse_list(text, scheme, list_uri)
    if parsed.defects and on_defect == "raise":
        shown = "; ".join(str(defect) for defect in parsed.defects[:_SHOWN_DEFECTS])
        more = len(parsed.defects) - _SHOWN_DEFECTS
        raise UserError(shown + (f"; and {more} more defects" if more > 0 else ""))
    if not parsed.items and not parsed.defects:
        raise UserError(f"{list_uri}: holds no item")
    return parsed


def parse_list(text: str, scheme: LabelScheme, list_uri: str = "list") -> AnnotationList:
    """The items and the defects of a list's text."""
    items: list[Item] = []
    defects: list[Defect] = []
    labels_of: dict[str, tuple[int, ...]] = {}
    repeats: dict[str, int] = {}
    ids: set[str] = set()
    parse = _parser(scheme)
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.rstrip("\r")
        if not line.strip():
            continue
        parsed = parse(line)
        if isinstance(parsed, str):
            defects.append(Defect(list_uri, number, parsed))
            continue
        path, labels = parsed
        identity = path if path.isascii() else item_id(path)
        if labels_of.setdefault(identity, labels) != labels:
            reason = f"{path} stands before with other labels {labels_of[identity]}, here {labels}"
            defects.append(Defect(list_uri, number, reason))
            continue
        repeat = repeats[identity] = repeats.get(identity, -1) + 1
        unique = f"{identity}#{repeat}" if repeat else identity
        if unique in ids:
            reason = f"{path}: the id {unique!r} is taken, by the repeat of another path"
            defects.append(Defect(list_uri, number, reason))
            continue
        ids.add(unique)
        items.append(Item(unique, path, labels))
    return AnnotationList(list_uri, scheme, items, defects)


def _parser(scheme: LabelScheme) -> Callable[[str], tuple[str, tuple[int, ...]] | str]:
    """`_parse_line` for one scheme: plain lines by one expression, labels looked up."""
    fault = functools.cache(scheme.fault)
    cut = re.escape(scheme.separator)
    codes = cut.join([_CODE.pattern] * len(scheme.columns))
    plain = re.compile(rf"(?:\./)?{_PLAIN}{cut}({codes})").fullmatch
    known: dict[str, tuple[int, ...]] = {}

    def parse(line: str) -> tuple[str, tuple[int, ...]] | str:
        match = plain(line)
        if match and match[2] in known:
            return match[1], known[match[2]]
        parsed = _parse_line(line, scheme, fault)
        if match and not isinstance(parsed, str):
            known[match[2]] = parsed[1]
        return parsed

    return parse


def _parse_line(
    line: str, scheme: LabelScheme, fault: Callable[[tuple[int, ...]], str | None]
) -> tuple[str, tuple[int, ...]] | str:
    """(path, labels), or the reason why the line is wrong; `fault` is the scheme's, remembered."""
    # From the right: names of files may hold the separator. The full form is tried first, then
    # the shorter ones that the scheme allows.
    wanted = len(scheme.columns)
    found = line.count(scheme.separator) + 1
    form = scheme.separator.join(["path", *scheme.columns])
    miscounted = f"{found} columns, {wanted + 1} wanted ({form})"
    for count in range(wanted, wanted - scheme.optional - 1, -1):
        path, *codes = line.rsplit(scheme.separator, count)
        if len(codes) == count and all(_CODE.fullmatch(code) for code in codes):
            _, cut, last = path.rpartition(scheme.separator)
            if cut and count == wanted and _CODE.fullmatch(last):
                return miscounted  # no name of an image ends so: it is one more code
            path, labels = _without_dot(path), tuple(int(code) for code in codes)
            return path_fault(path) or fault(labels) or (path, labels)
    if found < wanted + 1 - scheme.optional:
        return miscounted
    return f"codes must be whole numbers ({form}), got {line[-60:]!r}"


def read_lists(uris: Iterable[str], scheme: LabelScheme) -> list[AnnotationList]:
    """Several lists; the same path in two of them must carry the same labels.

    Raises:
        UserError: as `read_list`, or a path with other labels in another list.
    """
    lists = [read_list(uri, scheme) for uri in uris]
    check_labels(lists)
    return lists


def check_labels(lists: Iterable[AnnotationList]) -> None:
    """Nothing where each path carries the same labels in all lists.

    Raises:
        UserError: one does not.
    """
    seen: dict[str, tuple[tuple[int, ...], str]] = {}
    for one in lists:
        for item in one.items:
            labels, list_uri = seen.setdefault(item_id(item.path), (item.labels, one.list_uri))
            if labels != item.labels:
                raise UserError(
                    f"{item.path}: labels {item.labels} in {one.list_uri}, {labels} in {list_uri}"
                )


def format_list(items: Iterable[Item], scheme: LabelScheme) -> str:
    """The text of a list, one item a line.

    Raises:
        UserError: an item that could not be read back.
    """
    lines = []
    fault = functools.cache(scheme.fault)
    for item in items:
        line = scheme.separator.join([item.path, *map(str, item.labels)])
        read_back = _parse_line(line, scheme, fault)
        if read_back != (item.path, item.labels):
            why = read_back if isinstance(read_back, str) else f"would be read as {read_back}"
            raise UserError(f"{item.path!r} with labels {item.labels}: {why}")
        lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def write_list(store: Store, key: str, items: Iterable[Item], scheme: LabelScheme) -> None:
    """Write a list whole or not at all."""
    store.put(key, format_list(items, scheme).encode())
