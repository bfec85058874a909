"""A wall of cards to work through: sorted, filtered, marked by keyboard; thousands stay smooth.

The cards travel as JSON in pieces, so that the first are shown while the rest is still read, and
the page's script (templates/review.js) draws only those in sight.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

from markupsafe import Markup

from rayapp.pages.blocks import Overlay

_CARDS_A_PIECE = 50


@dataclass(frozen=True)
class HeatMap:
    """Probabilities of parts of a picture, row by row, over a box of it.

    `box` is left, top, width, height as shares of the picture's sides.
    """

    num_rows: int
    num_columns: int
    probabilities: Sequence[float]
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Card:
    """One picture with what is said of it.

    Args:
        path: names the image; marks are exported by it.
        version: of the file there: marks are kept for it, and not for what may come in its place.
        thumbnail: a data URI.
        verdict: the word set on the picture.
        group: why it stands here, a word to filter by.
        probability: of the verdict's detector; cards can be sorted by it.
        lines: further remarks, the first shown on the card, all in the large view.
        facts: name → text, in the large view.
        tone: colour of the verdict: plain, right, wrong or unsure.
        stands_for: how many images its group stands for, and how many there are in all; None: its
            group is no stratum of them.
        declared: what the file says of itself, a word to filter by; '': nothing was read.
        source: address of the file itself, for the large view; '': the thumbnail alone.
        overlay: what the detector saw.
        heat_map: where it sees what.
        spread: how far its probability moves as the picture is delivered elsewhere.
        apart: how far several detectors are apart, in probability.
    """

    path: str
    thumbnail: str
    verdict: str
    group: str
    probability: float
    lines: Sequence[str] = ()
    facts: Mapping[str, str] | None = None
    tone: str = "plain"
    declared: str = ""
    stands_for: tuple[int, int] | None = None
    source: str = ""
    overlay: Overlay | None = None
    heat_map: HeatMap | None = None
    spread: float | None = None
    apart: float | None = None
    version: str = ""

    def as_json(self) -> dict[str, object]:
        """As the page's script reads it; what is empty is left out."""
        whole = {
            "path": self.path,
            "thumbnail": self.thumbnail,
            "verdict": self.verdict,
            "group": self.group,
            "p": round(self.probability, 6),
            "lines": list(self.lines),
            "facts": dict(self.facts or {}),
            "tone": self.tone,
            "declared": self.declared,
            "source": self.source,
            "version": self.version,
        }
        for name, moved in (("spread", self.spread), ("apart", self.apart)):
            if moved is not None:
                whole[name] = round(moved, 4)
        if self.overlay:
            whole["size"] = [self.overlay.width, self.overlay.height]
            whole["boxes"] = self.overlay.outlined if self.overlay.dimmed else []
            whole["dimmed"] = self.overlay.dimmed
        if self.stands_for:
            whole["stands_for"] = list(self.stands_for)
        if self.heat_map:
            whole["map"] = asdict(self.heat_map) | {
                "probabilities": [round(one, 3) for one in self.heat_map.probabilities]
            }
        return {name: value for name, value in whole.items() if value not in ("", [], {})}


@dataclass(frozen=True)
class Review:
    """Cards in the order in which they want a look.

    `key` names where the images lie: marks are kept in the browser under it, and a later page of
    that place has them too. The page saves them as `reviewed.csv`, one `path,origin` a line.
    """

    cards: Sequence[Card]
    key: str
    kind: ClassVar[str] = "review"

    def pieces(self) -> Iterator[Markup]:
        """The cards as JSON, some at a time, safe inside of a script element."""
        for at in range(0, len(self.cards), _CARDS_A_PIECE):
            some = [card.as_json() for card in self.cards[at : at + _CARDS_A_PIECE]]
            text = json.dumps(some, ensure_ascii=False, separators=(",", ":"))
            yield Markup(text.replace("<", "\\u003c"))  # noqa: S704 - no tag can begin in it
