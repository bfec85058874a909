"""What a page is made of: each block is plain data that the template knows how to show."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from markupsafe import Markup, escape

from rayapp.metrics.measure import Measure

Value = str | int | float | bool | Measure | None
_CODE = re.compile(r"`([^`]+)`")
_SHORT = 24  # letters of code, which stay together: `--an option` is one word
_LONG = re.compile(r"\S{20,}")
_PARTS = re.compile(r"(?<=[/\\_.,:;=&?@|+-])(?=\w)(?!(?<=\.)\w{1,5}$)")  # but before .png
_DIGITS = re.compile(r"[0-9a-f]{8}(?=[0-9a-f]{8})")
_LINK = re.compile(r"\[([^\]]+)\]\((https?://[^)\s]+)\)")


@dataclass(frozen=True)
class Cell:
    """A table cell as shown: text, interval, what it sorts by, and why it is empty."""

    text: str
    interval: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under named columns; sortable by click and copied as CSV, Markdown or LaTeX.

    `formats` maps a column to a format specification (".3f", ",d", ".1%"); floats and measures
    are shown with ".3f" without one. A Measure shows its value and interval; a missing value is a
    dash that carries its reason.

    Raises:
        ValueError: a row has another number of cells than there are columns, or a format names
            no column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    caption: str = ""
    formats: Mapping[str, str] = field(default_factory=dict)
    kind: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number}: {len(row)} cells, {len(self.columns)} columns")
        unknown = set(self.formats) - set(self.columns)
        if unknown:
            raise ValueError(f"formats for columns that are not there: {sorted(unknown)}")

    @property
    def cells(self) -> list[list[Cell]]:
        """Every row as shown."""
        formats = [self.formats.get(column, "") for column in self.columns]
        return [[_cell(v, f) for v, f in zip(row, formats, strict=True)] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers, which are set to the right."""
        columns = list(zip(*self.rows, strict=True)) or [() for _ in self.columns]
        return [
            any(v is not None and not isinstance(v, str | bool) for v in column)
            and not any(isinstance(v, str | bool) for v in column)
            for column in columns
        ]


@dataclass(frozen=True)
class Prose:
    """Paragraphs, parted by empty lines; `code` and [text](https://…) are understood."""

    text: str
    kind: ClassVar[str] = "prose"

    @property
    def paragraphs(self) -> list[Markup]:
        """Escaped paragraphs with code and links marked up."""
        return [inline(part.strip()) for part in re.split(r"\n\s*\n", self.text) if part.strip()]


@dataclass(frozen=True)
class Notice:
    """One remark set apart: a `note`, or a `warning` that limits what the page may claim."""

    text: str
    tone: Literal["note", "warning"] = "note"
    kind: ClassVar[str] = "notice"

    @property
    def markup(self) -> Markup:
        """Escaped text with code and links marked up."""
        return inline(self.text)


@dataclass(frozen=True)
class Highlight:
    """One headline figure: its name, its value, and a short remark under it."""

    label: str
    value: Value
    remark: str = ""
    format: str = ""

    @property
    def cell(self) -> Cell:
        """The value as shown."""
        return _cell(self.value, self.format)


@dataclass(frozen=True)
class Highlights:
    """Headline figures side by side."""

    items: Sequence[Highlight]
    kind: ClassVar[str] = "highlights"


@dataclass(frozen=True)
class Figure:
    """A drawn figure as a data URI, with the text that stands for it where it cannot be seen."""

    uri: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Figures:
    """Figures side by side where there is room."""

    items: Sequence[Figure]
    kind: ClassVar[str] = "figures"


Box = tuple[float, float, float, float]  # top, left, bottom, right as shares of the sides


@dataclass(frozen=True)
class Overlay:
    """What is drawn over a picture of this size: outlined boxes, and all that is in none dimmed."""

    height: float
    width: float
    boxes: Sequence[Box]

    @property
    def outlined(self) -> list[Box]:
        """The boxes as x, y, width, height in the picture's units."""
        return [self._drawn(box) for box in self.boxes]

    @property
    def dimmed(self) -> list[Box]:
        """Rectangles that fill all that is in no box, as `outlined`."""
        ys, xs = (
            sorted({0.0, 1.0, *(edge for box in self.boxes for edge in (box[at], box[at + 2]))})
            for at in (0, 1)
        )
        return [
            self._drawn((top, left, bottom, right))
            for top, bottom in itertools.pairwise(ys)
            for left, right in itertools.pairwise(xs)
            if not any(_holds(box, top, left, bottom, right) for box in self.boxes)
        ]

    def _drawn(self, box: Box) -> Box:
        top, left, bottom, right = box
        drawn = (
            left * self.width,
            top * self.height,
            (right - left) * self.width,
            (bottom - top) * self.height,
        )
        return tuple(round(edge, 2) for edge in drawn)  # type: ignore[return-value]


def _holds(box: Box, top: float, left: float, bottom: float, right: float) -> bool:
    return box[0] <= top and box[1] <= left and bottom <= box[2] and right <= box[3]


@dataclass(frozen=True)
class Picture:
    """A thumbnail with a title and lines of detail; `mark` is a word set on the picture.

    With a `path`, that is shown in full under the first line, and a button copies it. With an
    `overlay` the whole picture is shown, else the square in its middle.
    """

    uri: str
    title: str
    lines: Sequence[str] = ()
    mark: str = ""
    tone: Literal["plain", "right", "wrong", "unsure"] = "plain"
    path: str = ""
    overlay: Overlay | None = None

    @property
    def shown_path(self) -> Markup:
        """The path with its last part set off, to be broken behind its separators."""
        folder, cut, name = self.path.rpartition("/")
        parts = (str(escape(part)) for part in (folder + cut, name))
        start, end = (re.sub(r"([/_-]+)", r"\1<wbr>", part) for part in parts)
        return Markup(f"{start}<strong>{end}</strong>")  # noqa: S704 - escaped two lines above


@dataclass(frozen=True)
class Gallery:
    """Thumbnails in a grid."""

    items: Sequence[Picture]
    caption: str = ""
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class KeyValues:
    """Named facts, such as versions, hashes and counts."""

    items: Mapping[str, Value]
    kind: ClassVar[str] = "keyvalues"

    @property
    def cells(self) -> list[tuple[str, Cell]]:
        """Names with their values as shown."""
        return [(name, _cell(value, "")) for name, value in self.items.items()]


@dataclass(frozen=True)
class Commands:
    """Shell commands to repeat what is shown, copied by click."""

    text: str
    caption: str = ""
    kind: ClassVar[str] = "commands"


Block = Table | Prose | Notice | Highlights | Figures | Gallery | KeyValues | Commands


def inline(text: str) -> Markup:
    """Escapes text, then marks up `code` and links to http addresses."""
    parted = _CODE.sub(lambda code: _parted(code[0]), text)
    marked = _CODE.sub(_as_code, str(escape(parted)))
    marked = _LINK.sub(r'<a href="\2">\1</a>', marked)
    return _with_breaks(marked)


def _as_code(found: re.Match[str]) -> str:
    kind = ' class="long"' if len(found[1]) > _SHORT else ""
    return f"<code{kind}>{found[1]}</code>"


def breakable(text: str) -> Markup:
    """Escapes text; a long name, path or hash may wrap between its parts, not within a word."""
    return _with_breaks(str(escape(_parted(text))))


def _parted(text: str) -> str:
    """A NUL where long words may wrap: behind what parts them, and every eighth digit of a hash."""

    def part(word: re.Match[str]) -> str:
        return _DIGITS.sub("\\g<0>\0", _PARTS.sub("\0", word[0]))

    return _LONG.sub(part, text.replace("\0", ""))


def _with_breaks(escaped: str) -> Markup:
    return Markup(escaped.replace("\0", "<wbr>"))  # noqa: S704 - escaped by the callers


def _cell(value: Value, spec: str) -> Cell:
    if value is None:
        return Cell("–")
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, str):
        return Cell(value)
    if isinstance(value, Measure):
        return _measure_cell(value, spec or ".3f")
    return Cell(format(value, spec or (",d" if isinstance(value, int) else ".3f")), value=value)


def _measure_cell(measure: Measure, spec: str) -> Cell:
    if measure.value is None:
        return Cell("–", reason=measure.reason)
    text = format(measure.value, spec)
    if measure.low is None or measure.high is None:
        return Cell(text, value=measure.value, reason=measure.reason)
    interval = f"[{format(measure.low, spec)}, {format(measure.high, spec)}]"
    return Cell(text, interval, measure.value, measure.low, measure.high)
