"""What the service asks of whoever scores: images and options in, rows of answers out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from rayapp.dataset.images import sha256

Row = dict[str, Any]


@dataclass(frozen=True)
class SentImage:
    """An image of a request: its name as sent, and the file; `error` where it could not be had."""

    name: str
    data: bytes
    error: str = ""

    @property
    def sha256(self) -> str:
        """Of the file; what logs call it."""
        return sha256(self.data)


@dataclass(frozen=True)
class ScoreOptions:
    """What is asked of each image beside its score."""

    stability: Literal["none", "web"] = "none"
    map: bool = False


@dataclass(frozen=True)
class Scored:
    """The answer of one detector, and who it was: a detector may be swapped between two."""

    detector: Row
    images: list[Row]


class Scoring(Protocol):
    """Detectors by name, each of which scores images."""

    names: Sequence[str]

    async def cards(self) -> list[Row]:
        """What is known of each detector, in the order of the names."""

    async def score(
        self, name: str, images: Sequence[SentImage], options: ScoreOptions, seconds: float
    ) -> Scored:
        """One row an image, in order; what is not done within so many seconds is not begun."""
