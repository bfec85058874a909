"""The gallery: the images that tell most, on one page to work through, what wants a look first."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from rayapp.models.detector_spec import Preprocessing
from rayapp.models.nothing_to_judge import kind_of
from rayapp.models.preprocessing import seen_boxes
from rayapp.models.verdicts import REAL, SYNTHETIC, UNCALIBRATED, UNSURE, Judge, Verdicts, no_basis
from rayapp.pages.blocks import (
    Block,
    Commands,
    Highlight,
    Highlights,
    KeyValues,
    Notice,
    Overlay,
    Prose,
    Value,
)
from rayapp.pages.page import Page, Section
from rayapp.pages.review import Card, Review
from rayapp.pages.thumbnails import thumbnail_of

GALLERY_FILE = "gallery.html"
_THREADS = 8
_SIDE = 240
NEAR = 0.1  # in probability: what is no further from the threshold could be either
# Shares of the gallery.
_PARTS = (("synthetic", 0.4), ("unsure", 0.4), ("real", 0.2))
_MISTAKES_SHARE = 0.4
_CONFLICTS_SHARE = 0.4
_OTHERWISE = "declares otherwise"
_DECLARED = ("declared", "declared_by")
PLACE = ("container", "column", "offset", "length", "etag", "url")  # of an image inside a file


@dataclass
class GallerySelection:
    """Picks, from score tables as they come by, the images that tell most.

    Those are the ones whose file declares something against the detector, those with the largest
    and the smallest margin to the threshold, those unsure or near to it and, where labels are
    known, those that are most surely wrong.
    """

    judge: Judge
    most: int
    counts: Counter[str] = field(default_factory=Counter)
    nothing: Counter[str] = field(default_factory=Counter)  # of those unsure, by kind of reason
    conflicts: int = 0
    _heaps: dict[str, list[Any]] = field(default_factory=dict)
    _held: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    _seen: int = 0

    def add(self, scores: pa.Table) -> None:
        """Look at a table."""
        rows, _, verdicts = self.judge.table(scores)
        words = [word.removesuffix(self.judge.mark) for word in verdicts.words]
        reasons = no_basis(scores, rows) or [""] * len(rows)
        self.counts.update(words)
        self.conflicts += sum(map(bool, verdicts.conflicts))
        self.nothing.update(kind_of(one) for one in reasons if one)
        if self.most and len(rows):
            seen = _Seen(scores, rows, words, verdicts, np.array([bool(one) for one in reasons]))
            for part, chosen_N, by_N in self._candidates(seen):
                self._push_all(part, chosen_N, by_N, seen)
        self._seen += scores.num_rows

    def merge(self, other: "GallerySelection") -> None:
        """As if what the other one saw had come by here."""
        self.counts.update(other.counts)
        self.conflicts += other.conflicts
        self.nothing.update(other.nothing)
        for part, heap in other._heaps.items():
            for item in heap:
                self._push(part, item)

    def _candidates(self, seen: "_Seen") -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Of each part which rows belong to it, and by what the most telling are chosen."""
        margins, classes = seen.verdicts.margins_N, bool(self.judge.classes)
        conflicts = np.array([bool(one) for one in seen.verdicts.conflicts])
        yield "conflict", conflicts, np.abs(margins)
        unsure = np.array([word == UNSURE for word in seen.words]) | (np.abs(margins) <= NEAR)
        yield "unsure", unsure, -np.abs(margins)
        real = ~unsure & (margins < 0) & (not classes)
        yield "real", real, np.abs(margins)
        yield "synthetic", ~unsure & ~real, np.abs(margins)
        if "origin" in seen.scores.column_names and not classes:
            origins = seen.scores["origin"].take(pa.array(seen.rows))
            known = np.asarray(origins.is_valid())
            wrong = (margins >= 0) != np.asarray(origins.fill_null(0)).astype(np.bool_)
            yield "wrong", known & wrong & ~seen.nothing_N, np.abs(margins)

    def _push_all(self, part: str, chosen_N: np.ndarray, by_N: np.ndarray, seen: "_Seen") -> None:
        """The chosen rows, the most telling first, until no further one can be among the most."""
        # Decides ties: the first stays. Rows that come in any order bring their number.
        order_N = self._seen + seen.rows
        if "row" in seen.scores.column_names:
            order_N = seen.scores["row"].to_numpy()[seen.rows]
        chosen = np.flatnonzero(chosen_N)
        for at in chosen[np.lexsort((order_N[chosen], -by_N[chosen]))]:
            by, order, heap = float(by_N[at]), int(order_N[at]), self._heaps.get(part, [])
            if len(heap) == self.most and (by, -order) < heap[0][:2]:
                break
            self._push(part, (by, -order, seen.entry(int(at))))

    def _push(self, part: str, item: tuple[float, int, dict[str, Any]]) -> None:
        heap, held = self._heaps.setdefault(part, []), self._held.setdefault(part, set())
        key = _key(item[2])
        if key in held:  # a list may name an image often: its first row stays
            at = next(at for at, one in enumerate(heap) if _key(one[2]) == key)
            if item[:2] > heap[at][:2]:
                heap[at] = item
                heapq.heapify(heap)
            return
        if len(heap) < self.most:
            heapq.heappush(heap, item)
            held.add(key)
        elif item[:2] > heap[0][:2]:
            held.remove(_key(heapq.heapreplace(heap, item)[2]))
            held.add(key)

    def ranked(self, part: str) -> list[dict[str, Any]]:
        """The `most` images of a part, the most telling first."""
        heap = sorted(self._heaps.get(part, []), key=lambda one: one[:2], reverse=True)
        return [entry for _, _, entry in heap]

    def parts(self) -> dict[str, list[dict[str, Any]]]:
        """At most so many images in all, each once: by part, the most telling first."""
        ranked = {part: self.ranked(part) for part in self._heaps}
        chosen: dict[str, list[dict[str, Any]]] = {}
        taken: set[tuple[str, str]] = set()

        def take(part: str, count: int) -> None:
            fresh = [one for one in ranked.get(part, []) if _key(one) not in taken][: max(count, 0)]
            taken.update(map(_key, fresh))
            chosen[part] = chosen.get(part, []) + fresh

        take("conflict", round(self.most * _CONFLICTS_SHARE))
        take("wrong", round((self.most - len(taken)) * _MISTAKES_SHARE))
        left = self.most - len(taken)
        for part, share in _PARTS:
            take(part, round(left * share))
        for part in ("conflict", *(part for part, _ in _PARTS)):  # what one does not need
            take(part, self.most - len(taken))
        return {part: entries for part, entries in chosen.items() if entries}


@dataclass(frozen=True)
class _Seen:
    """A table's rows that have a score; `rows` is where each lies in it."""

    scores: pa.Table
    rows: np.ndarray
    words: list[str]
    verdicts: Verdicts
    nothing_N: np.ndarray

    def entry(self, at: int) -> dict[str, Any]:
        """What is kept of a row: what its picture shows, and where its image lies."""
        names = set(self.scores.column_names) & {"path", "variant", "origin", *_DECLARED, *PLACE}
        row = self.scores.select(list(names)).slice(int(self.rows[at]), 1).to_pylist()[0]
        word = self.words[at]
        return {
            "path": row["path"],
            "variant": row["variant"] or "",
            "word": word,
            "p": float(self.verdicts.probabilities_N[at]),
            "margin": float(self.verdicts.margins_N[at]),
            "origin": row.get("origin"),
            "reason": self.verdicts.reasons[at] if word == UNSURE else "",
            "conflict": self.verdicts.conflicts[at],
            **{name: row.get(name) or "" for name in _DECLARED},
            "place": {name: row.get(name) for name in ("path", *PLACE)},
        }


def _key(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["path"], entry["variant"]


@dataclass(frozen=True)
class Missed:
    """What could not be scored: the first images, each with its reason; rows; rows not named."""

    named: Sequence[str] = ()
    num_rows: int = 0
    num_unnamed: int = 0


@dataclass(frozen=True)
class Gallerist:
    """Makes the page; thumbnails are made from the images, read again.

    Args:
        read: an image's bytes by its path.
        view: how the detector sees images, to show what it saw; None: whole.
        rates: what is known of the detector's own errors, in words.
        address: a file: address of an image by its path, for a look at its pixels; '' if none.
        next_commands: what reads the list of marks that the page saves.
    """

    read: Callable[[str], bytes]
    view: Preprocessing | None = None
    rates: str = ""
    address: Callable[[str], str] = lambda path: ""
    next_commands: str = ""

    def page(self, selection: GallerySelection, facts: dict[str, Value], missed: Missed) -> Page:
        """The selected images, what could not be scored, and how the scores came about."""
        sections: list[Section] = []
        with ThreadPoolExecutor(_THREADS) as pool:
            found = pool.map(lambda one: self._card(*one), _in_groups(selection))
            cards = [card for card in found if card]
        if cards:
            blocks: list[Block | Review] = [Review(cards, _key_of(cards, facts))]
            if self.next_commands:
                blocks += [Prose(_ABOUT_MARKS), Commands(self.next_commands)]
            sections.append(Section("Images", blocks))
        if missed.named:
            lines = [f"`{line}`" for line in missed.named]
            if missed.num_unnamed:
                lines.append(f"{missed.num_unnamed:,} more are named in scores.csv.")
            sections.append(Section("Not scored", [Prose("\n\n".join(lines))]))
        sections.append(Section("How these scores came about", [KeyValues(facts)]))
        counted = _counted(selection, missed.num_rows, self.rates, _legend(self.view))
        return Page("Scores", _summary(selection, len(cards)), [counted, *sections])

    def _card(self, group: str, one: dict[str, Any]) -> Card | None:
        try:
            uri, size_HW = thumbnail_of(self.read(one["path"]), _SIDE)
        except (OSError, ValueError):  # gone since it was scored
            return None
        said = f"declares {one['declared']}: {one['declared_by']}" if one["declared_by"] else ""
        lines = [text for text in (one["conflict"], one["reason"], said) if text]
        is_plain = one["variant"] in ("", "plain")
        if not is_plain:
            lines.append(f"scored as {one['variant']}, shown as it is")
        boxes = seen_boxes(size_HW, self.view) if self.view and is_plain else [(0.0, 0.0, 1.0, 1.0)]
        tone = "unsure" if one["word"] == UNSURE else "plain"
        facts = {"margin": f"{one['margin']:+.3f}", "size": f"{size_HW[1]} × {size_HW[0]} px"}
        if one["origin"] is not None:
            facts["labelled"] = SYNTHETIC if one["origin"] else REAL
            if one["word"] in (REAL, SYNTHETIC):
                tone = "right" if one["word"] == facts["labelled"] else "wrong"
        return Card(
            path=one["path"],
            thumbnail=uri,
            verdict=one["word"],
            group=group,
            probability=one["p"],
            lines=lines,
            facts=facts,
            declared=one["declared"],
            tone=tone,
            source=self.address(one["path"]),
            overlay=Overlay(*size_HW, boxes),
        )


_ABOUT_MARKS = (
    "“Save list” writes the images that you marked real or synthetic to `reviewed.csv`, one "
    "`path,origin` a line. Calibrate and evaluate read it; marks stay in this browser until you "
    "clear them."
)


def _key_of(cards: Iterable[Card], facts: dict[str, Value]) -> str:
    """Marks belong to these images under this detector."""
    named = [str(facts.get("detector")), *(card.path for card in cards)]
    return hashlib.sha256("\0".join(named).encode()).hexdigest()[:16]


def _in_groups(selection: GallerySelection) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each image that was chosen, with why it is there; what wants a look first comes first."""
    parts = selection.parts()
    likely = "surest" if selection.judge.classes else "surest synthetic"
    near = "least sure" if selection.judge.classes else "near the threshold"
    undecided = parts.get("unsure", [])
    for group, entries in (
        (_OTHERWISE, parts.get("conflict", [])),
        ("surely wrong", parts.get("wrong", [])),
        (UNSURE, [one for one in undecided if one["word"] == UNSURE]),
        (near, [one for one in undecided if one["word"] != UNSURE]),
        (likely, parts.get("synthetic", [])),
        ("surest real", parts.get("real", [])),
    ):
        for one in entries:
            yield group, one


def _summary(selection: GallerySelection, num_shown: int) -> str:
    total = sum(selection.counts.values())
    if not total:
        return "No image could be scored."
    counted = ", ".join(f"{count:,} {word}" for word, count in _in_order(selection))
    shown = "" if num_shown >= total else f" Shown are the {num_shown:,} that tell most."
    return f"{total:,} images: {counted}.{shown}"


def _in_order(selection: GallerySelection) -> list[tuple[str, int]]:
    """The verdicts that were given, and how often."""
    counts = selection.counts
    return [(word, counts[word]) for word in selection.judge.words if counts[word]]


def _counted(selection: GallerySelection, num_failed: int, rates: str, legend: str) -> Section:
    items = [Highlight(word, f"{count:,}") for word, count in _in_order(selection)]
    items.append(Highlight("not scored", f"{num_failed:,}"))
    if selection.judge.calibration is None and not selection.judge.classes:
        notice = Notice(
            f"This detector is {UNCALIBRATED}: its probabilities order images, and say no more "
            f"than that. Calibrate it on images like yours before you decide by them. {rates}",
            "warning",
        )
    else:
        notice = Notice(
            f"A verdict is no proof: it holds for images like those of the calibration. {rates}"
        )
    legends: list[Block] = [Prose(legend)] if legend else []
    return Section("Verdicts", [Highlights(items), notice, *legends])


def _legend(view: Preprocessing | None) -> str:
    """What the drawing over each picture means."""
    if view is None or view.view == "tiles":
        return ""
    looks = {
        "centre": f"at the square of {view.size} px in the middle",
        "five": f"at five squares of {view.size} px, in the middle and the corners",
        "resize": f"at the middle square, at {view.size} px",
    }[view.view]
    return (
        f"Dimmed is what the detector did not see: of each image it looks {looks}. Point at a "
        "picture to see it undimmed."
    )
