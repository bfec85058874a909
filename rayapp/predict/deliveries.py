"""How firm a score is: the picture as given, and as it is delivered elsewhere, decoded once.

Pictures change on their way (smaller, compressed again, cropped, barred), and a detector's score
with them. What is scored beside the picture itself says `configs/perturbations/deliveries.yaml`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rayapp.transforms.plans import apply_each

if TYPE_CHECKING:
    from rayapp.models.preprocessing import Pixels
    from rayapp.predict.score import Logits, Scorer, Seen
    from rayapp.transforms.perturbations import Perturbation

PERTURBATION = "deliveries"


@dataclass(frozen=True)
class SeenDelivered:
    """What a scorer keeps of an image, and of each of its deliveries."""

    plain: Seen
    delivered: tuple[Seen, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.each))

    @property
    def each(self) -> tuple[Seen, ...]:
        """The image as given, then its deliveries."""
        return (self.plain, *self.delivered)


@dataclass(frozen=True)
class Deliveries:
    """The ways in which a picture is delivered, and the seed of their draws."""

    perturbation: Perturbation
    seed: int

    def see(self, scorer: Scorer, pixels_HWC: Pixels, item_id: str) -> tuple[Seen, ...]:
        """What the scorer keeps of each delivery of a whole image."""
        size_HW = pixels_HWC.shape[0], pixels_HWC.shape[1]
        plans = self.perturbation.draw(size_HW, item_id, self.seed)
        return tuple(see_whole(scorer, one) for _, one in apply_each(plans, pixels_HWC))


def see_whole(scorer: Scorer, pixels_HWC: Pixels) -> Seen:
    """What the scorer keeps of an image that is there as a whole."""
    size_HW = pixels_HWC.shape[0], pixels_HWC.shape[1]
    top, left, bottom, right = scorer.looks_at(size_HW)
    return scorer.see(pixels_HWC[top:bottom, left:right], size_HW)


def as_column(delivered: Sequence[tuple[Logits, str]]) -> dict[str, list[float]]:
    """The logits of deliveries as a row has them; nothing where there is none."""
    return {"delivered_logits": [logits[0] for logits, _ in delivered]} if delivered else {}
