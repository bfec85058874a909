"""The gallery: the images that tell most, as thumbnails with their scores, on one page."""

import heapq
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from rayapp.pages.blocks import (
    Block,
    Gallery,
    Highlight,
    Highlights,
    KeyValues,
    Notice,
    Picture,
    Prose,
    Value,
)
from rayapp.pages.page import Page, Section
from rayapp.pages.thumbnails import thumbnail_of
from rayapp.predict.verdict import UNCALIBRATED, Judge
from rayapp.storage.store import Store

GALLERY_FILE = "gallery.html"
_THREADS = 8
_SIDE = 160
_SYNTHETIC = 1
# Shares of the gallery.
_PARTS = (("synthetic", 0.4), ("unsure", 0.4), ("real", 0.2))
_MISTAKES_SHARE = 0.4


@dataclass
class GallerySelection:
    """Picks, from score tables as they come by, the images that tell most.

    Those are the ones with the largest and the smallest margin to the threshold, those nearest to
    it and, where labels are known, those that are most surely wrong.
    """

    judge: Judge
    most: int
    counts: Counter[str] = field(default_factory=Counter)
    _heaps: dict[str, list[Any]] = field(default_factory=dict)
    _seen: int = 0

    def add(self, scores: pa.Table) -> None:
        """Look at a table."""
        rows, _, verdicts = self.judge.table(scores)
        origins = scores["origin"].to_pylist() if "origin" in scores.column_names else None
        paths, variants = scores["path"].to_pylist(), scores["variant"].to_pylist()
        for at, row in enumerate(rows):
            margin = float(verdicts.margins_N[at])
            word = verdicts.words[at].removesuffix(f" ({UNCALIBRATED})")
            origin = origins[row] if origins else None
            entry = {
                "path": paths[row], "variant": variants[row] or "", "word": word,
                "p": float(verdicts.probabilities_N[at]), "margin": margin, "origin": origin,
            }  # fmt: skip
            self.counts[word] += 1
            if not self.most:
                continue
            self._push("synthetic", margin, entry)
            self._push("real", -margin, entry)
            self._push("unsure", -abs(margin), entry)
            if origin is not None and not self.judge.classes and (margin >= 0) != bool(origin):
                self._push("wrong", abs(margin), entry)

    def _push(self, part: str, by: float, entry: dict[str, Any]) -> None:
        heap = self._heaps.setdefault(part, [])
        self._seen += 1  # decides ties: the first that came stays
        item = (by, -self._seen, entry)
        if len(heap) < self.most:
            heapq.heappush(heap, item)
        elif item > heap[0]:
            heapq.heapreplace(heap, item)

    def parts(self) -> dict[str, list[dict[str, Any]]]:
        """At most so many images in all, each once: by part, the most telling first."""
        ranked = {
            part: [entry for _, _, entry in sorted(heap, key=lambda one: one[:2], reverse=True)]
            for part, heap in self._heaps.items()
        }
        chosen: dict[str, list[dict[str, Any]]] = {}
        taken: set[tuple[str, str]] = set()

        def take(part: str, count: int) -> None:
            fresh = [
                one
                for one in ranked.get(part, [])
                if (one["path"], one["variant"]) not in taken and _belongs(part, one)
            ][: max(count, 0)]
            taken.update((one["path"], one["variant"]) for one in fresh)
            chosen[part] = chosen.get(part, []) + fresh

        take("wrong", round(self.most * _MISTAKES_SHARE))
        left = self.most - len(taken)
        for part, share in _PARTS:
            take(part, round(left * share))
        for part, _ in _PARTS:  # what one part does not need, others have
            take(part, self.most - len(taken))
        return {part: entries for part, entries in chosen.items() if entries}


def _belongs(part: str, one: dict[str, Any]) -> bool:
    return part in ("unsure", "wrong") or (one["margin"] >= 0) == (part == "synthetic")


_CLASS_HEADINGS = {"synthetic": "Most sure", "unsure": "Least sure"}
_HEADINGS = {
    "wrong": "Most surely wrong, by the labels given",
    "synthetic": "Most likely synthetic",
    "unsure": "Nearest to the threshold",
    "real": "Most likely real",
}


@dataclass(frozen=True)
class Missed:
    """What could not be scored: the first images, each with its reason; rows; rows not named."""

    named: Sequence[str] = ()
    num_rows: int = 0
    num_unnamed: int = 0


def page(selection: GallerySelection, root: Store, facts: dict[str, Value], missed: Missed) -> Page:
    """The page; thumbnails are made from the images, read again.

    Args:
        selection: has looked at all scores.
        root: where the images are.
        facts: what was scored, by what, how fast.
        missed: what could not be scored.
    """
    sections: list[Section] = []
    headings = _CLASS_HEADINGS if selection.judge.classes else _HEADINGS
    with ThreadPoolExecutor(_THREADS) as pool:
        for part, entries in selection.parts().items():
            pictures = list(pool.map(lambda one: _picture(root, one), entries))
            shown = [one for one in pictures if one]
            caption = f"{len(shown)} images" if shown else ""
            sections.append(Section(headings[part], [Gallery(shown, caption)]))
    if missed.named:
        lines = [f"`{line}`" for line in missed.named]
        if missed.num_unnamed:
            lines.append(f"{missed.num_unnamed:,} more are named in scores.csv.")
        sections.append(Section("Not scored", [Prose("\n\n".join(lines))]))
    sections.append(Section("How these scores came about", [KeyValues(facts)]))
    return Page("Scores", _summary(selection), [_counted(selection, missed.num_rows), *sections])


def _summary(selection: GallerySelection) -> str:
    total = sum(selection.counts.values())
    said = ", ".join(f"{count:,} {word}" for word, count in selection.counts.most_common())
    return f"{total:,} images: {said}." if total else "No image could be scored."


def _counted(selection: GallerySelection, num_failed: int) -> Section:
    items = [Highlight(word, f"{count:,}") for word, count in selection.counts.most_common()]
    items.append(Highlight("not scored", f"{num_failed:,}"))
    blocks: list[Block] = [Highlights(items)]
    if selection.judge.calibration is None and not selection.judge.classes:
        blocks.append(
            Notice(
                f"This detector is {UNCALIBRATED}: its probabilities order images, and say no more "
                "than that. Calibrate it on images like yours before you decide by them."
            )
        )
    else:
        blocks.append(
            Notice("A verdict is no proof. It holds for images like those of the calibration.")
        )
    return Section("Verdicts", blocks)


_TONES: dict[str, Literal["plain", "unsure"]] = {"unsure": "unsure"}


def _picture(root: Store, one: dict[str, Any]) -> Picture | None:
    try:
        uri = thumbnail_of(root.get(one["path"]), _SIDE)
    except (OSError, ValueError):  # gone since it was scored
        return None
    lines = [f"p = {one['p']:.3f}, margin {one['margin']:+.3f}"]
    if one["variant"] and one["variant"] != "plain":
        lines.append(f"scored as {one['variant']}, shown as it is")
    tone: Literal["plain", "right", "wrong", "unsure"] = _TONES.get(one["word"], "plain")
    if one["origin"] is not None and one["word"] in ("real", "synthetic"):
        right = (one["word"] == "synthetic") == bool(one["origin"])
        tone = "right" if right else "wrong"
    return Picture(uri, one["path"].rsplit("/", 1)[-1], lines, one["word"], tone)
