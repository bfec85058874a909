"""What the gallery shows: of all that was scored the images that tell most, and some at random."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import special

from rayapp.models.firmness import DEPENDS
from rayapp.models.fusion import DISAGREE
from rayapp.models.nothing_to_judge import kind_of
from rayapp.models.verdicts import UNSURE, Judge, Verdicts, no_basis

NEAR = 0.1  # in probability: what is no further from the threshold could be either
# What wants a look whatever else there is: of what is left of the gallery, its share at most.
_FIRST = (("conflict", 0.4), ("wrong", 0.4), ("flips", 0.3), ("apart", 0.3))
_PARTS = (("synthetic", 0.4), ("unsure", 0.4), ("real", 0.2))  # shares of what is then left
_DRAWN_SHARE = 0.3  # of the gallery, where there are more images than it shows
_DRAWN = "drawn at random"
_NAMED = ("path", "variant")
_OTHERWISE = "declares otherwise"
_DECLARED = ("declared", "declared_by")
_KEPT = ("map_logits", "part_logits")
PLACE = ("container", "column", "offset", "length", "etag", "url")  # of an image inside a file


@dataclass
class GallerySelection:
    """Picks, from score tables as they come by, the images that tell most.

    Those are the ones whose file declares something against the detector, whose verdict depends
    on delivery, on which a fusion's detectors disagree, those with the largest and the smallest
    margin to the threshold, those unsure or near to it and, where labels are known, those that are
    most surely wrong.
    """

    judge: Judge
    most: int
    counts: Counter[str] = field(default_factory=Counter)
    nothing: Counter[str] = field(default_factory=Counter)  # of those unsure, by kind of reason
    conflicts: int = 0
    flips: int = 0  # images with a delivery that flips the verdict
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
        self.flips += sum(bool(span and span.flips) for span in verdicts.spans)
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
        self.flips += other.flips
        self.nothing.update(other.nothing)
        for part, heap in other._heaps.items():
            for item in heap:
                self._push(part, item)

    def _candidates(self, seen: "_Seen") -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Of each part which rows belong to it, and by what the most telling are chosen."""
        margins, classes = seen.verdicts.margins_N, bool(self.judge.classes)
        conflicts = np.array([bool(one) for one in seen.verdicts.conflicts])
        yield "conflict", conflicts, np.abs(margins)
        spreads = np.array([s.p_max - s.p_min if s else 0.0 for s in seen.verdicts.spans])
        flips = np.array([bool(span and span.flips) for span in seen.verdicts.spans])
        yield "flips", flips, spreads
        apart = np.array([one == DISAGREE for one in seen.verdicts.reasons])
        yield "apart", apart, seen.aparts_N
        unsure = np.array([word == UNSURE for word in seen.words]) | (np.abs(margins) <= NEAR)
        yield "unsure", unsure, -np.abs(margins)
        real = ~unsure & (margins < 0) & (not classes)
        yield "real", real, np.abs(margins)
        yield "synthetic", ~unsure & ~real, np.abs(margins)
        order_N = _drawn_order(seen)
        for word in self.judge.words:
            yield _drawn(word), np.array([one == word for one in seen.words]), order_N
        if "origin" in seen.scores.column_names and not classes:
            origins = seen.scores["origin"].take(pa.array(seen.rows))
            known = np.asarray(origins.is_valid())
            wrong = (margins >= 0) != np.asarray(origins.fill_null(0)).astype(np.bool_)
            yield "wrong", known & wrong & ~seen.nothing_N, np.abs(margins)

    def strata(self) -> dict[str, int]:
        """How many of all images each group of the gallery stands for.

        What was chosen for what it tells stands for itself; what was drawn at random, for all
        that has its verdict and is not shown otherwise.
        """
        left, sizes = Counter(self.counts), Counter[str]()
        drawn = {_drawn(word): word for word in self.judge.words}
        groups = list(in_groups(self))
        for group, one in groups:
            if group not in drawn:
                sizes[group] += 1
                left[one["word"]] -= 1
        sizes |= Counter({group: left[drawn[group]] for group, _ in groups if group in drawn})
        return dict(sizes)

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

        all_shown = self.counts.total() <= self.most
        rest = self.most if all_shown else round(self.most * (1 - _DRAWN_SHARE))
        for part, share in _FIRST:
            take(part, round((rest - len(taken)) * share))
        left = rest - len(taken)
        for part, share in _PARTS:
            take(part, round(left * share))
        # What one does not need, others have.
        for part in ("conflict", "flips", "apart", *(part for part, _ in _PARTS)):
            take(part, rest - len(taken))
        words = [word for word in self.judge.words if ranked.get(_drawn(word))]
        for number, word in enumerate(words):
            take(_drawn(word), (self.most - len(taken)) // (len(words) - number))
        return {part: entries for part, entries in chosen.items() if entries}


@dataclass(frozen=True)
class _Seen:
    """A table's rows that have a score; `rows` is where each lies in it."""

    scores: pa.Table
    rows: np.ndarray
    words: list[str]
    verdicts: Verdicts
    nothing_N: np.ndarray

    @property
    def aparts_N(self) -> np.ndarray:
        """How far a fusion's detectors are apart, in probability; of another detector 0."""
        if "part_logits" not in self.scores.column_names:
            return np.zeros(len(self.rows))
        odds = self.scores["part_logits"].take(pa.array(self.rows)).to_pylist()
        return np.array([np.ptp(special.expit(one)) if one else 0.0 for one in odds])

    def entry(self, at: int) -> dict[str, Any]:
        """What is kept of a row: what its picture shows, and where its image lies."""
        wanted = {"path", "variant", "origin", *_DECLARED, *PLACE, *_KEPT}
        names = set(self.scores.column_names) & wanted
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
            "span": self.verdicts.spans[at],
            "parts": special.expit(row.get("part_logits") or []).tolist(),
            "map": row.get("map_logits") or [],
            **{name: row.get(name) or "" for name in _DECLARED},
            "place": {name: row.get(name) for name in ("path", *PLACE)},
        }


def _drawn(word: str) -> str:
    """The group of what was drawn at random under a verdict."""
    return f"{_DRAWN}, called {word}"


def _drawn_order(seen: _Seen) -> np.ndarray:
    """A number an image, larger ones are drawn first: of its path alone, so it is every run's."""
    columns = [seen.scores[name].take(pa.array(seen.rows)).to_pylist() for name in _NAMED]
    hashes = [
        hashlib.blake2b(f"drawn\0{path}\0{variant}".encode(), digest_size=8).digest()
        for path, variant in zip(*columns, strict=True)
    ]
    return np.frombuffer(b"".join(hashes), "<u8").astype(np.float64)


def _key(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["path"], entry["variant"]


def in_groups(selection: GallerySelection) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each image that was chosen, with why it is there; what wants a look first comes first."""
    parts = selection.parts()
    likely = "surest" if selection.judge.classes else "surest synthetic"
    near = "least sure" if selection.judge.classes else "near the threshold"
    undecided = parts.get("unsure", [])
    for group, entries in (
        (_OTHERWISE, parts.get("conflict", [])),
        ("surely wrong", parts.get("wrong", [])),
        (DEPENDS, parts.get("flips", [])),
        (DISAGREE, parts.get("apart", [])),
        (UNSURE, [one for one in undecided if one["word"] == UNSURE]),
        (near, [one for one in undecided if one["word"] != UNSURE]),
        (likely, parts.get("synthetic", [])),
        ("surest real", parts.get("real", [])),
        *((part, entries) for part, entries in parts.items() if part.startswith(_DRAWN)),
    ):
        for one in entries:
            yield group, one
