"""What a file declares of its origin: an entry for each place that says something."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["ai-generated", "ai-edited", "camera", "edited"]
State = Literal["verified", "unverified", "broken"]

AI_GENERATED: Kind = "ai-generated"
AI_EDITED: Kind = "ai-edited"
CAMERA: Kind = "camera"
EDITED: Kind = "edited"
NOTHING = "nothing"
VERIFIED: State = "verified"
UNVERIFIED: State = "unverified"
BROKEN: State = "broken"
KINDS = (AI_GENERATED, AI_EDITED, CAMERA, EDITED, NOTHING)
OF_AI = frozenset({AI_GENERATED, AI_EDITED})

UNSIGNED = "unsigned: anyone can write it"
_MOST_DETAIL = 300  # characters
# An editor beside a camera: what was taken was changed.
_RANK = {AI_GENERATED: 0, AI_EDITED: 1, EDITED: 2, CAMERA: 3}


@dataclass(frozen=True)
class Declaration:
    """One statement: what says it, in which part of the file, and whether a signature holds it.

    `state` is `verified` where a signature holds and its signer is on the trust list that was
    given, `broken` where a signature does not fit the file, else `unverified`.
    """

    kind: Kind
    what: str
    where: str
    state: State
    detail: str


@dataclass(frozen=True)
class Declared:
    """All that a file declares; `notes` is what a person should know besides."""

    declarations: tuple[Declaration, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Iterable[Declaration], notes: Iterable[str] = ()) -> "Declared":
        """The strongest first: verified, then of AI, then broken, then the rest."""
        return cls(tuple(sorted(found, key=_strength)), tuple(notes))

    @property
    def first(self) -> Declaration | None:
        """The strongest declaration."""
        return self.declarations[0] if self.declarations else None

    @property
    def kind(self) -> str:
        """`ai-generated`, `ai-edited`, `camera`, `edited`, or `nothing`; never `real`."""
        return self.first.kind if self.first else NOTHING

    @property
    def by(self) -> str:
        """What says so, where, and how far that is to be believed: `C2PA, PNG caBX, verified`."""
        one = self.first
        return f"{one.what}, {one.where}, {one.state}" if one else ""

    @property
    def detail(self) -> str:
        """One line: the strongest declaration's own words, then the others in short."""
        parts = [self.first.detail] if self.first else ["nothing declared"]
        others = [f"{one.kind} by {one.what} ({one.state})" for one in self.declarations[1:]]
        parts += [f"also {', '.join(dict.fromkeys(others))}"] if others else []
        return one_line("; ".join([*parts, *self.notes]), _MOST_DETAIL)

    def columns(self) -> dict[str, str]:
        """As tables have it."""
        return {"declared": self.kind, "declared_by": self.by, "declared_detail": self.detail}


def _strength(one: Declaration) -> tuple[bool, bool, bool, int]:
    weak = one.kind not in OF_AI
    return one.state != VERIFIED, weak, weak and one.state != BROKEN, _RANK[one.kind]


def one_line(text: str, most: int) -> str:
    """Printable text without line breaks, cut after `most` characters."""
    flat = " ".join("".join(one if one.isprintable() else " " for one in text[: 4 * most]).split())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"
