"""The numbers of a perturbation and their bounds: single ones, and pairs to draw one from."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field


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
Count = Annotated[int, Field(ge=1)]
CountRange = Annotated[tuple[Count, Count], *_Pair]
Kernel = Annotated[int, Field(ge=3, le=31)]
KernelRange = Annotated[tuple[Kernel, Kernel], *_Pair, AfterValidator(_odd)]
Grey = Annotated[int, Field(ge=0, le=255)]
Positive = Annotated[float, Field(gt=0)]
PositiveRange = Annotated[tuple[Positive, Positive], *_Pair]
Share = Annotated[float, Field(gt=0, le=1)]
ShareRange = Annotated[tuple[Share, Share], *_Pair]
Scale = Annotated[float, Field(gt=0, le=8)]
# A number stays one, so that the hash of a perturbation that gives one stays what it was.
ScaleOrRange = Annotated[
    Scale | tuple[Scale, Scale],
    AfterValidator(lambda value: _ordered(value) if isinstance(value, tuple) else value),
]
