"""scores.csv: the scores for people, one line an image, what wants a look first."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from rayapp.models.verdicts import REAL, SYNTHETIC, UNSURE, Judge

CSV_FILE = "scores.csv"
_COLUMNS = (
    "folder",
    "file",
    "verdict",
    "probability",
    "margin",
    "reason",
    "declared",
    "declared_by",
    "declared_detail",
    "conflict",
    "p_min",
    "p_max",
    "flips",
    "width",
    "height",
    "bytes",
    "format",
    "error",
    "path",
    "logit",
    "preprocessing",
)
_FACTS = ("width", "height", "bytes", "format")
_DECLARED = ("declared", "declared_by", "declared_detail")
_BLANK = ("", "", "")
_CONFLICT = -1  # before all ranks
# What nobody has judged stands before what needs no look.
_NOT_SCORED = "not scored"
_ORDER = (SYNTHETIC, UNSURE, _NOT_SCORED, REAL)
_BOM = b"\xef\xbb\xbf"  # by which Excel takes the file for UTF-8
_PLACE = np.dtype([("rank", np.int16), ("p", np.float64), ("start", np.int64), ("bytes", np.int64)])


@dataclass
class Sheet:
    """Lines as they come by, kept in a file and sorted by where they lie in it.

    First comes what a file declares against the detector. Then synthetic, the most sure at the top;
    then unsure, then what could not be scored, then real, again the likeliest synthetic first. Of a
    detector of classes: one class after the other, the most sure first.

    Args:
        judge: what the logits mean.
        file: a temporary one.
        variants: with a column that names the variant of a perturbation.
    """

    judge: Judge
    file: BinaryIO
    variants: bool = False
    _places: list[np.ndarray] = field(default_factory=list)
    _end: int = 0

    def add(self, scores: pa.Table) -> None:
        """Keep the lines of a table of scores; an image that failed has its error."""
        rows, logits, verdicts = self.judge.table(scores)
        order = self._order
        places = np.zeros(scores.num_rows, _PLACE)
        places["rank"] = order.index(_NOT_SCORED)
        words = [word.removesuffix(self.judge.mark) for word in verdicts.words]
        places["rank"][rows] = [order.index(word) for word in words]
        places["rank"][rows[[bool(one) for one in verdicts.conflicts]]] = _CONFLICT
        places["p"][rows] = verdicts.probabilities_N
        figures = {
            int(row): (
                *(word, f"{p:.6f}", f"{margin:+.6f}", reason, against),
                *((f"{span.p_min:.6f}", f"{span.p_max:.6f}", str(span.flips)) if span else _BLANK),
                f"{logit:.6g}",
            )
            for row, word, p, margin, reason, against, span, logit in zip(
                rows,
                verdicts.words,
                verdicts.probabilities_N,
                verdicts.margins_N,
                verdicts.reasons,
                verdicts.conflicts,
                verdicts.spans,
                logits,
                strict=True,
            )
        }
        known = set(scores.column_names)  # tables of before do not know what files declare
        names = ["path", "error", "variant", *_FACTS, *(one for one in _DECLARED if one in known)]
        facts = scores.select(names).to_pylist()
        lines = [self._line(row, figures.get(at)) for at, row in enumerate(facts)]
        self.file.write(b"".join(lines))
        places["bytes"] = [len(line) for line in lines]
        places["start"] = self._end + np.cumsum(places["bytes"]) - places["bytes"]
        self._end += int(places["bytes"].sum())
        self._places.append(places)

    @property
    def _order(self) -> tuple[str, ...]:
        return (*self.judge.classes, UNSURE, _NOT_SCORED) if self.judge.classes else _ORDER

    def _line(self, row: dict[str, Any], figures: tuple[str, ...] | None) -> bytes:
        word, probability, margin, reason, against, *span, logit = figures or [""] * 9
        folder, _, name = row["path"].rpartition("/")
        cells = [_no_formula(folder), _no_formula(name), word, probability, margin, reason]
        cells += [_no_formula(row.get(name) or "") for name in _DECLARED]
        cells += [against, *span, *(row[fact] for fact in _FACTS)]
        cells += [row["error"], _no_formula(row["path"]), logit, self.judge.preprocessing]
        return _csv_line([*cells, *([row["variant"]] if self.variants else [])])

    def lines(self) -> Iterator[bytes]:
        """The whole file, sorted."""
        yield _BOM + _csv_line([*_COLUMNS, *(["variant"] if self.variants else [])])
        for place in self._sorted():
            yield self._read(place)

    def first(self, most: int) -> list[str]:
        """The images to look at first, with their probability: conflicts, synthetic or unsure."""
        found: dict[str, str] = {}
        if self.judge.classes:
            return []
        for place in self._sorted():
            if place["rank"] >= _ORDER.index(_NOT_SCORED) or len(found) == most:
                break
            line = dict(zip(_COLUMNS, next(csv.reader([self._read(place).decode()])), strict=False))
            against = line["declared"] if line["conflict"] else ""
            line_of = look_line(line["path"], float(line["probability"]), against)
            found.setdefault(line["path"], line_of)
        return list(found.values())

    def _sorted(self) -> np.ndarray:
        places = np.concatenate([np.zeros(0, _PLACE), *self._places])
        # Stable: those of equal probability stay as they came.
        return places[np.lexsort((-places["p"], places["rank"]))]

    def _read(self, place: Any) -> bytes:
        self.file.seek(int(place["start"]))
        return self.file.read(int(place["bytes"]))


def look_line(path: str, p: float, against: str) -> str:
    """An image to look at first, with its probability, and what its file declares against it."""
    return f"{path} (p {p:.3f}{f', declares {against}' if against else ''})"


def _csv_line(cells: list[Any]) -> bytes:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerow(cells)
    return sink.getvalue().encode()


def _no_formula(path: str) -> str:
    """The path itself, or as `./path` where a spreadsheet would run it as a formula."""
    return f"./{path}" if path.startswith(("=", "+", "-", "@", "\t", "\r")) else path
