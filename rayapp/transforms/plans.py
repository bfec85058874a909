"""Plans: what is done to one image, drawn apart from being done, and small enough to be stored.

A plan is a list of operations with their arguments. The same plan on the same pixels gives the
same pixels, so that a manifest that holds plans can explain and re-make every image. Some
operations mix the image with another one, which is given beside the plan.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from rayapp.transforms import operations
from rayapp.transforms.jpeg_layouts import jpeg_as
from rayapp.transforms.operations import ImageHWC, SizeHW, Window
from rayapp.transforms.pair_operations import PAIR_OPERATIONS

Value = int | float | str

OPERATIONS: dict[str, Callable[..., ImageHWC]] = {**operations.OPERATIONS, "jpeg_as": jpeg_as}
_ALL = {**OPERATIONS, **PAIR_OPERATIONS}
_PARAMETERS = {
    name: frozenset(list(inspect.signature(operation).parameters)[1 if name in OPERATIONS else 2 :])
    for name, operation in _ALL.items()
}


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on an image, or on two, with its arguments."""

    op: str
    params: tuple[tuple[str, Value], ...]

    def __post_init__(self) -> None:
        if self.op not in _ALL:
            raise ValueError(f"unknown operation {self.op!r} (known: {', '.join(_ALL)})")
        if _PARAMETERS[self.op] != {name for name, _ in self.params}:
            given = ", ".join(name for name, _ in self.params)
            wanted = ", ".join(sorted(_PARAMETERS[self.op]))
            raise ValueError(f"{self.op} takes ({wanted}), got ({given})")

    @classmethod
    def of(cls, op: str, **params: Value) -> Self:
        """A step by name and keyword arguments."""
        return cls(op, tuple(params.items()))

    def apply(self, image_HWC: ImageHWC, other_HWC: ImageHWC | None = None) -> ImageHWC:
        """The image after this step; possibly a view of the image given.

        Raises:
            ValueError: it mixes two images, and there is no other.
        """
        if self.op in OPERATIONS:
            return OPERATIONS[self.op](image_HWC, **dict(self.params))
        if other_HWC is None:
            raise ValueError(f"{self.op} mixes two images, one was given")
        return PAIR_OPERATIONS[self.op](image_HWC, other_HWC, **dict(self.params))


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps done to one image, first to last."""

    steps: tuple[Step, ...] = ()

    def to_json(self) -> str:
        """One line of JSON: `[{"op": "crop", "top": 3, …}, …]`."""
        records = [{"op": step.op, **dict(step.params)} for step in self.steps]
        return json.dumps(records, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The plan that `to_json` wrote.

        Raises:
            ValueError: no such operation, or other arguments than it takes.
        """
        return cls(tuple(Step.of(**record) for record in json.loads(text)))


class Draft:
    """A plan while it is drawn: its steps so far, and the size of the image after them."""

    def __init__(self, size_HW: SizeHW) -> None:
        self.height, self.width = size_HW
        self.steps: tuple[Step, ...] = ()

    def add(self, op: str, **params: Value) -> None:
        """Append a step that leaves the image's size as it is."""
        self.steps = (*self.steps, Step.of(op, **params))

    def take(self, top: int, left: int, height: int, width: int) -> None:
        """Append a crop, unless it is the whole image."""
        if (height, width) != (self.height, self.width):
            self.add("crop", top=top, left=left, height=height, width=width)
            self.height, self.width = height, width

    def reshape(
        self, op: Literal["pad", "letterbox", "resize"], height: int, width: int, **more: Value
    ) -> None:
        """Append a step that makes the image height × width, unless it is."""
        if (height, width) != (self.height, self.width):
            self.add(op, height=height, width=width, **more)
            self.height, self.width = height, width

    def square(self, side: int, top: int, left: int) -> None:
        """Append padding to at least `side` and a crop of side × side at (top, left).

        An axis is either padded or cropped, so the crop may come first: it spares mirroring
        pixels that are thrown away, and lets a store read the window only.
        """
        self.take(top, left, min(side, self.height), min(side, self.width))
        self.reshape("pad", side, side)

    def rotate(self, turns: int) -> None:
        """Append quarter turns, unless there are none."""
        if turns:
            self.add("rotate90", turns=turns)
        if turns % 2:
            self.height, self.width = self.width, self.height


def apply(plan: Plan, image_HWC: ImageHWC, other_HWC: ImageHWC | None = None) -> ImageHWC:
    """The image that the plan makes, contiguous; the images given are left as they are.

    Args:
        plan: what to do.
        image_HWC: uint8 RGB. An empty plan gives the same array back.
        other_HWC: what steps that mix two images mix it with.
    """
    for step in plan.steps:
        image_HWC = step.apply(image_HWC, other_HWC)
    return np.ascontiguousarray(image_HWC)


def apply_each(plans: Mapping[str, Plan], image_HWC: ImageHWC) -> Iterator[tuple[str, ImageHWC]]:
    """(variant, image) of each plan; the steps that all plans begin with are done once."""
    if not plans:
        return
    shared = _shared_steps(list(plans.values()))
    start_HWC = apply(Plan(shared), image_HWC)
    for name, plan in plans.items():
        yield name, apply(Plan(plan.steps[len(shared) :]), start_HWC)


def _shared_steps(plans: list[Plan]) -> tuple[Step, ...]:
    shared = plans[0].steps
    for plan in plans[1:]:
        same = 0
        for ours, theirs in zip(shared, plan.steps, strict=False):
            if ours != theirs:
                break
            same += 1
        shared = shared[:same]
    return shared


def split_window(plan: Plan, size_HW: SizeHW) -> tuple[Window, Plan]:
    """The part of the source image that a plan looks at, and what is left to do to that part.

    For stores that can read a window without decoding the whole image:
    `apply(plan, image) == apply(rest, crop(image, *window))`. A plan that does not begin with a
    crop looks at the whole image.
    """
    if plan.steps and plan.steps[0].op == "crop":
        params = dict(plan.steps[0].params)
        window = Window(*(int(params[name]) for name in Window._fields))
        return window, Plan(plan.steps[1:])
    return Window(0, 0, *size_HW), plan
