"""Rules: the steps of a perturbation, as YAML holds them, each of which draws steps of a plan.

Every rule is a mapping with the operation's name as its one key: `jpeg: {quality: [60, 100]}`.
A pair `[low, high]` is drawn uniformly, both ends included; a single number is fixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from rayapp.config.settings import Settings
from rayapp.transforms.bounds import (
    CountRange,
    Grey,
    KernelRange,
    Positive,
    PositiveRange,
    Probability,
    QualityRange,
    ScaleOrRange,
    ShareRange,
    Side,
    SideRange,
)
from rayapp.transforms.operations import Channels, Filter, Place, window_at

if TYPE_CHECKING:
    from rayapp.transforms.draws import Dice
    from rayapp.transforms.operations import Axis
    from rayapp.transforms.plans import Draft


class DoesNotFitError(Exception):
    """The image is smaller than a rule with `small: skip` needs."""


class Crop(Settings):
    """A square of the image, or a share of it."""

    side: SideRange | None = Field(
        None, description="side in px; of a pair, uniform in low..max(low, min(H, W, high))"
    )
    share: ShareRange | None = Field(
        None, description="instead of a square: share of height and of width that is left"
    )
    at: Place | Literal["random"] = Field("random", description="where the square lies")
    small: Literal["pad", "keep", "skip"] = Field(
        "pad",
        description="an image smaller than the square is padded by reflection, kept, or skipped",
    )

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.side is None) == (self.share is None):
            raise ValueError("give either side or share")
        if self.share and {"at", "small"} & self.model_fields_set:
            raise ValueError("a share lies at random and always fits: leave at and small out")
        return self

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw side, or the shares of height and width, then top and left."""
        if self.side is None:
            height, width = (
                max(1, round(side * dice.uniform(*self.share or (1, 1))))
                for side in (draft.height, draft.width)
            )
            top = dice.integer(0, draft.height - height)
            left = dice.integer(0, draft.width - width)
            draft.take(top, left, height, width)
            return
        low, high = self.side
        side = dice.integer(low, max(low, min(draft.height, draft.width, high)))
        if self.small == "skip" and min(draft.height, draft.width) < side:
            raise DoesNotFitError
        if self.at == "random":
            top = dice.integer(0, max(draft.height - side, 0))
            left = dice.integer(0, max(draft.width - side, 0))
        else:
            top, left, _, _ = window_at((draft.height, draft.width), side, self.at)
        if self.small == "pad":
            draft.square(side, top, left)
        else:
            draft.take(top, left, min(side, draft.height), min(side, draft.width))


class RandomResizedCrop(Settings):
    """A rectangle of random area and shape, resized to a square (Szegedy et al. 2014)."""

    side: Side = Field(description="side of the result in px")
    scale: ShareRange = Field((0.08, 1.0), description="area of the rectangle, share of the image")
    ratio: PositiveRange = Field((3 / 4, 4 / 3), description="width : height, log-uniform")
    filter: Filter = Field("lanczos4", description="how to resize")

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw area and shape up to ten times until it fits, else take the central square."""
        draft.take(*self._rectangle(draft, dice))
        draft.reshape("resize", self.side, self.side, filter=self.filter)

    def _rectangle(self, draft: Draft, dice: Dice) -> tuple[int, int, int, int]:
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area = dice.uniform(*self.scale) * draft.height * draft.width
            ratio = math.exp(dice.uniform(low, high))
            height, width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < height <= draft.height and 0 < width <= draft.width:
                top = dice.integer(0, draft.height - height)
                left = dice.integer(0, draft.width - width)
                return top, left, height, width
        size_HW = draft.height, draft.width
        return window_at(size_HW, min(size_HW), "centre")


class Resize(Settings):
    """The whole image to a square of `side`, by a factor, down to a longer or to a shorter side."""

    side: Side | None = Field(None, description="side of the result in px")
    scale: ScaleOrRange | None = Field(None, description="factor, each axis, or a pair")
    longest: SideRange | None = Field(
        None, description="longer side in px at most, or a pair; a smaller image stays as it is"
    )
    shortest: SideRange | None = Field(
        None, description="shorter side in px, or a pair; a smaller image is enlarged to it"
    )
    filter: Filter | Literal["fitting"] = Field(
        "lanczos4", description="how to resize; fitting: area to shrink, lanczos4 to enlarge"
    )

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        sizes = (self.side, self.scale, self.longest, self.shortest)
        if sum(size is not None for size in sizes) != 1:
            raise ValueError("give either side or scale or longest or shortest")
        return self

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw the factor, the longer or the shorter side, where it is a pair."""
        height, width = self._size(draft, dice)
        filter = self.filter
        if filter == "fitting":
            smaller = height * width < draft.height * draft.width
            filter = "area" if smaller else "lanczos4"
        draft.reshape("resize", height, width, filter=filter)

    def _size(self, draft: Draft, dice: Dice) -> tuple[int, int]:
        if self.side is not None:
            return self.side, self.side
        if self.longest is not None:
            factor = min(dice.integer(*self.longest) / max(draft.height, draft.width), 1)
        elif self.shortest is not None:
            factor = dice.integer(*self.shortest) / min(draft.height, draft.width)
        else:
            low, high = self.scale if isinstance(self.scale, tuple) else (self.scale, self.scale)
            factor = dice.uniform(low or 1, high or 1)
        return max(1, round(draft.height * factor)), max(1, round(draft.width * factor))


class Letterbox(Settings):
    """Bars that bring the image to another shape, each axis to four times its length at most."""

    ratio: PositiveRange = Field(description="width : height of the result, or a pair")
    level: Grey = Field(0, description="grey level of the bars")

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw the ratio."""
        ratio = dice.uniform(*self.ratio)
        height = max(draft.height, min(round(draft.width / ratio), 4 * draft.height))
        width = max(draft.width, min(round(draft.height * ratio), 4 * draft.width))
        draft.reshape("letterbox", height, width, level=self.level)


class _Compression(Settings):
    quality: QualityRange = Field(description="1–100, or a pair")
    channels: Channels = Field(
        "rgb", description="order given to the encoder; the published pipeline gave it bgr"
    )


class Jpeg(_Compression):
    """Compression as JPEG and back."""

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw the quality."""
        draft.add("jpeg", quality=dice.integer(*self.quality), channels=self.channels)


class Webp(_Compression):
    """Compression as lossy WebP and back."""

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw the quality."""
        draft.add("webp", quality=dice.integer(*self.quality), channels=self.channels)


class Blur(Settings):
    """Gaussian blur."""

    kernel: KernelRange = Field(description="odd kernel size in px, or a pair")

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw the kernel: any whole number of the range, an even one made odd by adding 1.

        So 3, 5, 7 come up as 1 : 2 : 2, as in the published pipeline (albumentations 1.3.1).
        """
        draft.add("blur", kernel=dice.integer(*self.kernel) | 1)


class Noise(Settings):
    """Gaussian noise."""

    variance: PositiveRange = Field(description="in squared grey levels, or a pair")

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw the variance, then the seed of the field."""
        variance = dice.uniform(*self.variance)
        draft.add("noise", variance=variance, seed=dice.integer(0, 2**63 - 1))


class Rotate90(Settings):
    """Quarter turns."""

    p: Probability = Field(1.0, description="probability")

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw whether, then 0 to 3 turns."""
        if not dice.chance(self.p):
            return
        draft.rotate(dice.integer(0, 3))


class Flip(Settings):
    """Mirroring."""

    p: Probability = Field(1.0, description="probability")

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw whether, then one of the three axes."""
        if not dice.chance(self.p):
            return
        axes: tuple[Axis, ...] = ("horizontal", "vertical", "both")
        draft.add("flip", axis=axes[dice.integer(0, 2)])


class Grayscale(Settings):
    """Luma in all channels."""

    p: Probability = Field(1.0, description="probability")

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw whether."""
        if dice.chance(self.p):
            draft.add("grayscale")


class Choice(Settings):
    """One of the ways that `one_of` may go."""

    weight: Positive = Field(1.0, description="how likely, relative to the other choices")
    steps: tuple[Rule, ...] = Field(description="what is done")


class OneOf(Settings):
    """With a probability, one of several lists of steps."""

    p: Probability = Field(1.0, description="probability that any of them is done")
    choices: tuple[Choice, ...] = Field(min_length=1, description="the lists, by weight")

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw whether, then which, then its steps."""
        if not dice.chance(self.p):
            return
        for rule in self.choices[_by_weight(self.choices, dice)].steps:
            rule.draw(draft, dice)


class SeveralOf(Settings):
    """Some of several lists of steps, each once, in an order that is drawn too."""

    count: CountRange = Field(description="how many of the lists, or a pair")
    choices: tuple[Choice, ...] = Field(min_length=1, description="the lists, by weight")

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.count[1] > len(self.choices):
            raise ValueError(f"count {self.count[1]} is more than {len(self.choices)} choices")
        return self

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw how many, then each in turn: which of those that are left, and its steps."""
        left = list(self.choices)
        for _ in range(dice.integer(*self.count)):
            at = _by_weight(left, dice)
            for rule in left.pop(at).steps:
                rule.draw(draft, dice)


def _by_weight(choices: Sequence[Choice], dice: Dice) -> int:
    mark = dice.uniform(0, sum(choice.weight for choice in choices))
    for at, choice in enumerate(choices):
        mark -= choice.weight
        if mark < 0:
            return at
    return len(choices) - 1


class Rule(Settings):
    """One step of a perturbation: exactly one of the operations below."""

    crop: Crop | None = Field(None, description="pad to a square's side and cut it out")
    random_resized_crop: RandomResizedCrop | None = Field(None, description="zoom")
    resize: Resize | None = Field(None, description="resize all of it")
    jpeg: Jpeg | None = Field(None, description="JPEG compression")
    webp: Webp | None = Field(None, description="WebP compression")
    blur: Blur | None = Field(None, description="Gaussian blur")
    noise: Noise | None = Field(None, description="Gaussian noise")
    rotate90: Rotate90 | None = Field(None, description="quarter turns")
    flip: Flip | None = Field(None, description="mirroring")
    grayscale: Grayscale | None = Field(None, description="luma")
    letterbox: Letterbox | None = Field(None, description="bars to another shape")
    one_of: OneOf | None = Field(None, description="a choice")
    several_of: SeveralOf | None = Field(None, description="some of a list, in a drawn order")

    @model_validator(mode="before")
    @classmethod
    def _one_operation(cls, data: Any) -> Any:
        known = ", ".join(cls.model_fields)
        if not isinstance(data, dict) or len(data) != 1:
            raise ValueError(f"a step is one `operation: {{…}}` (known: {known})")
        name, params = next(iter(data.items()))
        if name not in cls.model_fields:
            raise ValueError(f"unknown operation {name!r} (known: {known})")
        return {name: {} if params is None else params}

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Append to the draft what this rule draws."""
        (name,) = self.model_fields_set
        getattr(self, name).draw(draft, dice)
