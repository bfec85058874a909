"""The gallery: the images that tell most, on one page to work through, what wants a look first."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from rayapp.models.detector_spec import Preprocessing
from rayapp.models.nothing_to_judge import kind_of
from rayapp.models.preprocessing import seen_boxes
from rayapp.models.verdicts import REAL, SYNTHETIC, UNCALIBRATED, UNSURE, Judge, no_basis
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


@dataclass
class GallerySelection:
    """Picks, from score tables as they come by, the images that tell most.

    Those are the ones with the largest and the smallest margin to the threshold, those unsure or
    near to it and, where labels are known, those that are most surely wrong.
    """

    judge: Judge
    most: int
    counts: Counter[str] = field(default_factory=Counter)
    nothing: Counter[str] = field(default_factory=Counter)  # of those unsure, by kind of reason
    _heaps: dict[str, list[Any]] = field(default_factory=dict)
    _held: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    _seen: int = 0

    def add(self, scores: pa.Table) -> None:
        """Look at a table."""
        rows, _, verdicts = self.judge.table(scores)
        nothing = no_basis(scores, rows) or [""] * len(rows)
        origins = scores["origin"].to_pylist() if "origin" in scores.column_names else None
        paths, variants = scores["path"].to_pylist(), scores["variant"].to_pylist()
        for at, row in enumerate(rows):
            margin = float(verdicts.margins_N[at])
            word = verdicts.words[at].removesuffix(self.judge.mark)
            origin = origins[row] if origins else None
            entry = {
                "path": paths[row],
                "variant": variants[row] or "",
                "word": word,
                "p": float(verdicts.probabilities_N[at]),
                "margin": margin,
                "origin": origin,
                "reason": verdicts.reasons[at] if word == UNSURE else "",
            }
            self.counts[word] += 1
            if nothing[at]:
                self.nothing[kind_of(nothing[at])] += 1
            if not self.most:
                continue
            if word == UNSURE or abs(margin) <= NEAR:
                self._push("unsure", -abs(margin), entry)
            else:
                is_real = margin < 0 and not self.judge.classes
                self._push("real" if is_real else "synthetic", abs(margin), entry)
            is_judged = origin is not None and not self.judge.classes and not nothing[at]
            if is_judged and (margin >= 0) != bool(origin):
                self._push("wrong", abs(margin), entry)

    def _push(self, part: str, by: float, entry: dict[str, Any]) -> None:
        heap, held = self._heaps.setdefault(part, []), self._held.setdefault(part, set())
        self._seen += 1  # decides ties: the first that came stays
        item, key = (by, -self._seen, entry), _key(entry)
        if key in held:  # a list may name an image often
            return
        if len(heap) < self.most:
            heapq.heappush(heap, item)
            held.add(key)
        elif item > heap[0]:
            held.remove(_key(heapq.heapreplace(heap, item)[2]))
            held.add(key)

    def parts(self) -> dict[str, list[dict[str, Any]]]:
        """At most so many images in all, each once: by part, the most telling first."""
        ranked = {
            part: [entry for _, _, entry in sorted(heap, key=lambda one: one[:2], reverse=True)]
            for part, heap in self._heaps.items()
        }
        chosen: dict[str, list[dict[str, Any]]] = {}
        taken: set[tuple[str, str]] = set()

        def take(part: str, count: int) -> None:
            fresh = [one for one in ranked.get(part, []) if _key(one) not in taken][: max(count, 0)]
            taken.update(map(_key, fresh))
            chosen[part] = chosen.get(part, []) + fresh

        take("wrong", round(self.most * _MISTAKES_SHARE))
        left = self.most - len(taken)
        for part, share in _PARTS:
            take(part, round(left * share))
        for part, _ in _PARTS:  # what one part does not need, others have
            take(part, self.most - len(taken))
        return {part: entries for part, entries in chosen.items() if entries}


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
        lines = [one["reason"]] if one["reason"] else []
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
