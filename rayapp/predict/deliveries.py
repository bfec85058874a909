"""What a scorer keeps of a picture and its deliveries; inputs that are the same are scored once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rayapp.predict.score_result import SeenByEach

if TYPE_CHECKING:
    from rayapp.models.delivered import Deliveries
    from rayapp.models.preprocessing import Pixels
    from rayapp.predict.score import Scorer, Seen
    from rayapp.predict.score_result import Logits, Scored


@dataclass(frozen=True)
class SeenDelivered:
    """What a scorer keeps of an image, and of each of its deliveries.

    A delivery of which the detector sees the very pixels that it sees of the image (of black bars,
    where it looks at the middle) is None: its logit is the image's.
    """

    plain: Seen
    delivered: tuple[Seen | None, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.each))

    @property
    def each(self) -> tuple[Seen, ...]:
        """What is to be scored: the image as given, then its deliveries."""
        return (self.plain, *(one for one in self.delivered if one is not None))

    def logits_of(self, scored: Sequence[Scored]) -> list[Logits]:
        """The logits of all deliveries, of what was scored for `each`."""
        others: Iterator[Scored] = iter(scored[1:])
        return [(scored[0] if one is None else next(others)).logits for one in self.delivered]


def see_delivered(
    scorer: Scorer, pixels_HWC: Pixels, deliveries: Deliveries, key: str
) -> SeenDelivered:
    """What the scorer keeps of a whole image, and of each delivery of it; see `Deliveries.of`."""
    plain = see_whole(scorer, pixels_HWC)
    others = (see_whole(scorer, one_HWC) for _, one_HWC in deliveries.of(pixels_HWC, key))
    return SeenDelivered(plain, tuple(None if _same(plain, one) else one for one in others))


def see_whole(scorer: Scorer, pixels_HWC: Pixels) -> Seen:
    """What the scorer keeps of an image that is there as a whole."""
    size_HW = pixels_HWC.shape[0], pixels_HWC.shape[1]
    top, left, bottom, right = scorer.looks_at(size_HW)
    return scorer.see(pixels_HWC[top:bottom, left:right], size_HW)


def _same(one: Seen, other: Seen) -> bool:
    if isinstance(one, SeenByEach) and isinstance(other, SeenByEach):
        return all(map(np.array_equal, one.views, other.views))
    return (
        isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and np.array_equal(one, other)
    )
