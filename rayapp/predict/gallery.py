"""The gallery: the images that tell most, on one page to work through, what wants a look first."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rayapp.models.detector_spec import Preprocessing
from rayapp.models.preprocessing import seen_boxes
from rayapp.models.verdicts import REAL, SYNTHETIC, UNCALIBRATED, UNSURE, Judge
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
from rayapp.pages.review import Card, HeatMap, Review
from rayapp.pages.thumbnails import thumbnail_of
from rayapp.predict.gallery_selection import GallerySelection, in_groups
from rayapp.predict.score_maps import heat_map

GALLERY_FILE = "gallery.html"
_THREADS = 8
_SIDE = 240


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
        judge: turns the logits of kept maps into probabilities; None: no map is shown.
        part_names: of a fusion's detectors.
    """

    read: Callable[[str], bytes]
    view: Preprocessing | None = None
    rates: str = ""
    address: Callable[[str], str] = lambda path: ""
    next_commands: str = ""
    judge: Judge | None = None
    part_names: Sequence[str] = ()

    def page(self, selection: GallerySelection, facts: dict[str, Value], missed: Missed) -> Page:
        """The selected images, what could not be scored, and how the scores came about."""
        sections: list[Section] = []
        with ThreadPoolExecutor(_THREADS) as pool:
            strata, total = selection.strata(), selection.counts.total()
            found = pool.map(
                lambda one: self._card(one[0], one[1], (strata[one[0]], total)),
                in_groups(selection),
            )
            cards = [card for card in found if card]
        if cards:
            blocks: list[Block | Review] = [Review(cards, _key_of(facts))]
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

    def _card(self, group: str, one: dict[str, Any], of: tuple[int, int]) -> Card | None:
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
        heat = self._heat(one, size_HW)
        facts |= self._grounds(one, heat)
        return Card(
            path=one["path"],
            thumbnail=uri,
            verdict=one["word"],
            group=group,
            probability=one["p"],
            lines=lines,
            facts=facts,
            declared=one["declared"],
            stands_for=of if not one["variant"] else None,
            tone=tone,
            source=self.address(one["path"]),
            overlay=Overlay(*size_HW, boxes),
            heat_map=heat,
            spread=one["span"].p_max - one["span"].p_min if one["span"] else None,
            apart=max(one["parts"]) - min(one["parts"]) if one["parts"] else None,
            version=(one["place"].get("etag") or "")[:32],
        )

    def _heat(self, one: dict[str, Any], size_HW: tuple[int, int]) -> HeatMap | None:
        if not (one["map"] and self.judge and self.view):
            return None
        return heat_map(one["map"], self.judge, size_HW, self.view)

    def _grounds(self, one: dict[str, Any], heat: HeatMap | None) -> dict[str, str]:
        """How firm the verdict is over deliveries, what each part and detector says by itself."""
        found = {}
        if heat:
            low, high = min(heat.probabilities), max(heat.probabilities)
            size = f"{heat.num_columns} × {heat.num_rows} parts"
            found["map"] = f"{size}, p {low:.3f} to {high:.3f}; of parts it orders, no more"
        if span := one["span"]:
            flips = f"{span.flips} of them flip the verdict" if span.flips else "none flips it"
            found["as delivered elsewhere"] = f"p {span.p_min:.3f} to {span.p_max:.3f}; {flips}"
        if one["parts"]:
            names = self.part_names or [f"detector {at}" for at, _ in enumerate(one["parts"], 1)]
            each = (f"{name} {p:.3f}" for name, p in zip(names, one["parts"], strict=True))
            found["each detector by itself"] = ", ".join(each)
        return found


_ABOUT_MARKS = (
    "“Save list” writes the images that you marked real or synthetic to `reviewed.csv`, one "
    "`path,origin` a line, which evaluate reads. “Save all marks” writes `marks.csv`, which also "
    "says how each image came into this gallery: mark some of every group, above all of those "
    "drawn at random, and calibrate weighs them so that they stand for all that was scored. Marks "
    "stay in this browser until you clear them."
)


def _key_of(facts: dict[str, Value]) -> str:
    """Marks belong to images of this place, whichever of them a gallery shows next time."""
    named = [str(facts.get(name)) for name in ("detector", "images")]
    return hashlib.sha256("\0".join(named).encode()).hexdigest()[:16]


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
