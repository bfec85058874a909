"""Marks of a review: what a person says that images are, and how those images were chosen.

A gallery shows what tells most first, so what is marked is no fair sample of what was scored. Its
table of marks says of each image the stratum that it was chosen in, how many images that stratum
has, and how many were scored in all: an image that is marked stands for as many images of its
stratum as there are, divided by how many of it are marked (Horvitz and Thompson 1952).
"""

import csv
import io
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rayapp.config.errors import UserError
from rayapp.dataset.labels import item_id, load_scheme, path_fault, read_list
from rayapp.storage.uris import read_uri

Sampled = Literal["as-written", "uniform"]
REVIEWED = "reviewed"  # the label scheme of a list of marks
STRATUM, STRATUM_IMAGES, ALL_IMAGES = "stratum", "stratum_images", "all_images"
_ORIGINS = {"real": 0, "synthetic": 1}
_UNCLEAR = "unclear"
_LEAST_COVERED = 0.9  # share of the scored images for which the marks stand
_MOST_GONE = 0.1  # share of the marks


@dataclass(frozen=True)
class Marks:
    """Path → 0 real or 1 synthetic, and path → how many images each stands for.

    `num_unclear` were marked as neither; `warnings` say what the marks do not stand for.
    """

    origins: dict[str, int]
    weights: dict[str, float]
    num_unclear: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def counts(self) -> tuple[int, int]:
        """How many are real, and how many synthetic."""
        num_synthetic = sum(self.origins.values())
        return len(self.origins) - num_synthetic, num_synthetic

    def few_gone(self, there: Collection[str]) -> set[str]:
        """Marked images that are not `there` any more, where they are few enough to do without."""
        gone = self.origins.keys() - there
        return gone if len(gone) <= _MOST_GONE * len(self.origins) else set()

    def left_out(self, gone: Collection[str]) -> "Marks":
        """The same, with a warning of how many were left out when it was read."""
        why = f"marks left out for want of a score: {len(gone):,}; first: {min(gone)}"
        return replace(self, warnings=(*self.warnings, why))


@dataclass(frozen=True)
class _Line:
    path: str
    mark: str
    stratum: str = ""
    stratum_images: int = 0
    all_images: int = 0


def read_marks(
    uris: Sequence[str], sampled: Sampled = "as-written", gone: Collection[str] = ()
) -> Marks:
    """The marks of some lists.

    Args:
        uris: tables of marks as the gallery and the service's page save them (a line of headings,
            among them `path` and `mark`), or lists of `path,origin`.
        sampled: uniform: every marked image counts alike, whatever the lists say.
        gone: paths whose marks are left out, as if they had not been made.

    Raises:
        UserError: no such list, a wrong line, an image that is marked differently twice; or a list
            does not say how its images were chosen, or its marks stand for too few of them.
    """
    origins: dict[str, int] = {}
    weights: Counter[str] = Counter()
    where: dict[str, str] = {}
    known: dict[str, tuple[int, set[str]]] = {}  # of each list how many were scored, and its paths
    num_unclear, warnings = 0, []
    for uri in uris:
        lines = [line for line in _lines_of(uri) if line.path not in gone]
        num_unclear += sum(line.mark == _UNCLEAR for line in lines)
        marked = [line for line in lines if line.mark != _UNCLEAR]
        for line in marked:
            origin = _ORIGINS[line.mark]
            if origins.setdefault(line.path, origin) != origin:
                raise UserError(
                    f"{line.path}: marked {line.mark} in {uri}, not so in {_at(where, line)}"
                )
            where.setdefault(line.path, uri)
        if sampled == "uniform":
            weights |= Counter(dict.fromkeys((line.path for line in marked), 1))
        else:
            known[uri] = _all_images(marked), {line.path for line in marked}
            _check_saved_once(known, uri)
            each, warning = _stands_for(uri, marked)
            weights.update(each)
            warnings += [warning] if warning else []
    if not origins:
        raise UserError(f"{', '.join(uris)}: no image is marked real or synthetic")
    return Marks(origins, dict(weights), num_unclear, tuple(warnings))


def _at(where: dict[str, str], line: _Line) -> str:
    return where.get(line.path, "the same list")


def _check_saved_once(known: Mapping[str, tuple[int, set[str]]], uri: str) -> None:
    """Nothing where a list is no second copy of one of the others.

    Raises:
        UserError: it is: its images would count twice.
    """
    for other in known:
        (num, paths), (other_num, others) = known[uri], known[other]
        if other != uri and num == other_num and (paths <= others or others <= paths):
            raise UserError(
                f"{uri}: marks of the same review as {other}; give the list that was saved last"
            )


def _all_images(marked: Sequence[_Line]) -> int:
    return max((line.all_images for line in marked), default=0)


def _stands_for(uri: str, marked: Sequence[_Line]) -> tuple[Counter[str], str]:
    """How many images each marked one stands for, and what none of them stands for."""
    if not all(line.stratum and line.stratum_images and line.all_images for line in marked):
        raise UserError(
            f"{uri}: does not say how its images were chosen, and what a gallery shows first is no "
            "fair sample; save all marks of a gallery of this version (marks.csv), mark every "
            "image on the service's page, or give --sampled uniform if they were chosen at random"
        )
    num_marked = Counter({line.path: line.stratum for line in marked}.values())
    sizes = {line.stratum: line.stratum_images for line in marked}
    total = _all_images(marked)
    covered = sum(sizes.values())
    if covered < _LEAST_COVERED * total:
        raise UserError(
            f"{uri}: its marks stand for {covered:,} of {total:,} images alone; mark some of every "
            "group of the gallery, above all of those that were drawn at random"
        )
    short = total - covered
    warning = f"{uri}: of {short:,} of {total:,} images none was marked" if short > 0 else ""
    each = {line.path: line.stratum_images / num_marked[line.stratum] for line in marked}
    return Counter(each), warning


def _lines_of(uri: str) -> list[_Line]:
    try:
        text = read_uri(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{uri}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    apart = ";" if text.startswith("path;") else ","  # as some spreadsheets save it
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=apart)
    try:
        if {"path", "mark"} <= set(rows.fieldnames or ()):
            return [_line(uri, number, row) for number, row in enumerate(rows, 2)]
    except csv.Error as error:  # such as a quotation mark that is never closed
        raise UserError(f"{uri}: line {rows.line_num + 1}: {error}") from None
    words = {origin: word for word, origin in _ORIGINS.items()}
    items = read_list(uri, load_scheme(REVIEWED)).items
    return [_Line(item_id(item.path), words[item.labels[0]]) for item in items]


def _line(uri: str, number: int, row: dict[str, str | None]) -> _Line:
    path, mark = row["path"] or "", row["mark"] or ""
    fault = path_fault(path.removeprefix("./"))
    if mark not in (*_ORIGINS, _UNCLEAR):
        fault = fault or f"mark {mark!r} is not real, synthetic or unclear"
    sizes = [row.get(name) or "0" for name in (STRATUM_IMAGES, ALL_IMAGES)]
    if not all(one.isdecimal() for one in sizes):
        fault = fault or f"{STRATUM_IMAGES} and {ALL_IMAGES} are whole numbers"
    if fault:
        raise UserError(f"{uri}: row {number}: {fault}")
    return _Line(item_id(path), mark, row.get(STRATUM) or "", *map(int, sizes))
