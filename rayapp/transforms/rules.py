"""Rules: the steps of a perturbation, as YAML holds them, each of which draws steps of a plan.

Every rule is a mapping with the operation's name as its one key: `jpeg: {quality: [60, 100]}`.
A pair `[low, high]` is drawn uniformly, both ends included; a single number is fixed.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from rayapp.config.settings import Settings
from rayapp.transforms.draws import Dice
from rayapp.transforms.operations import Axis, Channels, Filter, Place, window_at
from rayapp.transforms.plans import Draft


class DoesNotFitError(Exception):
    """The image is smaller than a rule with `small: skip` needs."""


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value, value)


def _ordered(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    if pair[0] > pair[1]:
        raise ValueError("the first of the pair must not be larger than the second")
    return pair


def _odd(pair: tuple[int, int]) -> tuple[int, int]:
    if any(end % 2 == 0 for end in pair):
        raise ValueError("a kernel has an odd number of pixels")
    return pair


Side = Annotated[int, Field(ge=1, le=16_383)]
Quality = Annotated[int, Field(ge=1, le=100)]
Probability = Annotated[float, Field(gt=0, le=1)]
_Pair = (BeforeValidator(_pair), AfterValidator(_ordered))
SideRange = Annotated[tuple[Side, Side], *_Pair]
QualityRange = Annotated[tuple[Quality, Quality], *_Pair]
Kernel = Annotated[int, Field(ge=3, le=31)]
KernelRange = Annotated[tuple[Kernel, Kernel], *_Pair, AfterValidator(_odd)]
Positive = Annotated[float, Field(gt=0)]
PositiveRange = Annotated[tuple[Positive, Positive], *_Pair]
Share = Annotated[float, Field(gt=0, le=1)]
ShareRange = Annotated[tuple[Share, Share], *_Pair]


class Crop(Settings):
    """A square of the image."""

    side: SideRange = Field(
        description="side in px; of a pair, uniform in low..max(low, min(H, W, high))"
    )
    at: Place | Literal["random"] = Field("random", description="where the square lies")
    small: Literal["pad", "keep", "skip"] = Field(
        "pad",
        description="an image smaller than the square is padded by reflection, kept, or skipped",
    )

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw side, then top and left."""
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
    """The whole image to a square of `side`, or by a factor."""

    side: Side | None = Field(None, description="side of the result in px")
    scale: Annotated[float, Field(gt=0, le=8)] | None = Field(None, description="factor, each axis")
    filter: Filter = Field("lanczos4", description="how to resize")

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.side is None) == (self.scale is None):
            raise ValueError("give either side or scale")
        return self

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Nothing is drawn."""
        height = self.side or max(1, round(draft.height * (self.scale or 1)))
        width = self.side or max(1, round(draft.width * (self.scale or 1)))
        draft.reshape("resize", height, width, filter=self.filter)


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
    steps: tuple["Rule", ...] = Field(description="what is done")


class OneOf(Settings):
    """With a probability, one of several lists of steps."""

    p: Probability = Field(1.0, description="probability that any of them is done")
    choices: tuple[Choice, ...] = Field(min_length=1, description="the lists, by weight")

    def draw(self, draft: Draft, dice: Dice) -> None:
        """Draw whether, then which, then its steps."""
        if not dice.chance(self.p):
            return
        mark = dice.uniform(0, sum(choice.weight for choice in self.choices))
        for choice in self.choices:
            mark -= choice.weight
            if mark < 0:
                break
        for rule in choice.steps:
            rule.draw(draft, dice)


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
    one_of: OneOf | None = Field(None, description="a choice")

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
