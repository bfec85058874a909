"""What is drawn for a pair: where it is cut, how strong it is; a function of seed and id alone.

Shapes: H W.
"""

import math
from dataclasses import dataclass

from rayapp.config.errors import UserError
from rayapp.models.autoencoders.round_trip import LatentNoise
from rayapp.reconstruct.settings import ReconstructSettings
from rayapp.transforms.draws import Dice
from rayapp.transforms.operations import SizeHW, Window
from rayapp.transforms.plans import Step

_SEEDS = 2**62
_HIGHEST = 0.71  # cycles a pixel, along the diagonal
_NARROWEST = 0.1  # of a band


@dataclass(frozen=True)
class Strength:
    """How much of a reconstruction a partner is."""

    share: float  # of the reconstruction in the mix; 1: nothing is mixed
    noise: LatentNoise
    mix: tuple[Step, ...]


@dataclass(frozen=True)
class PairDraws:
    """The draws of all pairs of a run."""

    seed: int
    side: int
    latent_noise: float
    blend: float
    blend_least: float
    blend_in: str

    @classmethod
    def of(cls, settings: ReconstructSettings) -> "PairDraws":
        """Those that the settings ask for."""
        return cls(
            settings.seed,
            settings.side,
            settings.latent_noise,
            settings.blend,
            settings.blend_least,
            settings.blend_in,
        )

    def window(self, size_HW: SizeHW, unit_HW: SizeHW, multiple: int, item_id: str) -> Window:
        """The cut: as large as `side` allows, on the grid of `unit_HW`, in whole units.

        Args:
            size_HW: height and width of the image.
            unit_HW: height and width of what its file codes together.
            multiple: sides must be multiples of it, too.
            item_id: the image's id.

        Raises:
            UserError: the image or `side` is smaller than a unit.
        """
        dice = Dice(self.seed, "reconstruct/cut", item_id)
        spans = []
        for length, unit in zip(size_HW, unit_HW, strict=True):
            step = math.lcm(unit, multiple)
            taken = min(length, self.side) // step * step
            if not taken:
                raise UserError(
                    f"{size_HW[0]}×{size_HW[1]} px (height × width) and side {self.side}: a pair "
                    f"has {step} px at least"
                )
            spans.append((dice.integer(0, (length - taken) // unit) * unit, taken))
        (top, height), (left, width) = spans
        return Window(top, left, height, width)

    def autoencoder(self, item_id: str, count: int) -> int:
        """Which of so many autoencoders an image goes through."""
        return Dice(self.seed, "reconstruct/autoencoder", item_id).integer(0, count - 1)

    def strength(self, item_id: str) -> Strength:
        """Noise and mixing of one partner."""
        dice = Dice(self.seed, "reconstruct/noise", item_id)
        noise = LatentNoise(dice.uniform(0, self.latent_noise), 0)
        if noise.share:
            noise = LatentNoise(noise.share, dice.integer(0, _SEEDS))
        dice = Dice(self.seed, "reconstruct/blend", item_id)
        if not self.blend or not dice.chance(self.blend):
            return Strength(1.0, noise, ())
        share = dice.uniform(self.blend_least, 1.0)
        in_bands = self.blend_in == "bands" or (self.blend_in == "both" and dice.chance(0.5))
        if not in_bands:
            return Strength(share, noise, (Step.of("blend", share=share),))
        low = dice.uniform(0.0, _HIGHEST - _NARROWEST)
        high = dice.uniform(low + _NARROWEST, _HIGHEST)
        return Strength(share, noise, (Step.of("blend_band", low=low, high=high, share=share),))
