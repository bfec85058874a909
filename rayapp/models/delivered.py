"""The same picture as it is delivered elsewhere: smaller, compressed again, cropped, barred.

The ways are those of `configs/perturbations/deliveries.yaml`. What is drawn in them is drawn from
the file's bytes, so that predict, `judge` and explain see the same, whatever the file is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rayapp.dataset.images import pixel_sha256, sha256
from rayapp.transforms.perturbations import Perturbation, load_perturbation
from rayapp.transforms.plans import apply_each

if TYPE_CHECKING:
    from rayapp.models.preprocessing import Pixels

PERTURBATION = "deliveries"
SEED = 42
_WORDS = {
    "web": "at most 768 px, JPEG quality 60",
    "preview": "at most 512 px, JPEG quality 40",
    "cropped": "60 % of height and of width",
    "barred": "with black bars to 16 : 9",
}


@dataclass(frozen=True)
class Deliveries:
    """The ways in which a picture is delivered, and the seed of what is drawn in them."""

    perturbation: Perturbation
    seed: int = SEED

    @classmethod
    def load(cls, seed: int = SEED) -> Deliveries:
        """Those of `deliveries.yaml`."""
        return cls(load_perturbation(PERTURBATION), seed)

    def of(self, pixels_HWC: Pixels, key: str) -> Iterator[tuple[str, Pixels]]:
        """Each delivery in words, and its pixels.

        Args:
            pixels_HWC: the picture as it is.
            key: names the picture, SHA-256 of its file: of it places are drawn.
        """
        size_HW = pixels_HWC.shape[0], pixels_HWC.shape[1]
        for name, made_HWC in apply_each(
            self.perturbation.draw(size_HW, key, self.seed), pixels_HWC
        ):
            yield _WORDS.get(name, name), made_HWC


def key_of(image: object, pixels_HWC: Pixels) -> str:
    """What names a picture: its file's bytes where there are such, else its pixels."""
    return sha256(image) if isinstance(image, bytes) else pixel_sha256(pixels_HWC)
