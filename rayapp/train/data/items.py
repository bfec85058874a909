"""From annotation lists to what is trained on: labels of the losses, classes of the head."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rayapp.config.errors import UserError
from rayapp.dataset.labels import AnnotationList, LabelScheme, item_id
from rayapp.models.detector_spec import Labels
from rayapp.models.losses import IGNORED_CLASS

LOSS_COLUMNS = ("origin", "content", "generator", "model")
ORIGIN = "origin"
_NO_GENERATOR = "real"  # what schemes call the code that real images bear


@dataclass(frozen=True, slots=True)
class TrainItem:
    """One image to train on.

    `labels` are the codes of the loss's columns, 0 for a column that the scheme lacks; `target` is
    the class that the head tells, -1 where the image has none; `group` names what it belongs
    together with, empty where nothing.
    """

    id: str
    path: str
    labels: tuple[int, ...]
    target: int
    group: str = ""


def train_items(lists: Sequence[AnnotationList], target: str) -> list[TrainItem]:
    """Every image of the lists once, in order."""
    scheme = lists[0].scheme
    classes = {code: at for at, code in enumerate(_codes(scheme, target))}
    items: dict[str, TrainItem] = {}
    for one in lists:
        for item in one.items:
            codes = dict(zip(scheme.columns, item.labels, strict=False))
            labels = tuple(codes.get(column, 0) for column in LOSS_COLUMNS)
            number = classes.get(codes.get(target, -1), IGNORED_CLASS)
            identity = item_id(item.path)
            items.setdefault(identity, TrainItem(identity, identity, labels, number))
    return list(items.values())


def with_groups(items: Sequence[TrainItem], group_of: Mapping[str, str | None]) -> list[TrainItem]:
    """The items with the groups of their paths; one of no group is by itself.

    Raises:
        UserError: no two items share a group.
    """
    grouped = [replace(item, group=group_of.get(item.path) or "") for item in items]
    if max(Counter(item.group for item in grouped if item.group).values(), default=0) < 2:
        raise UserError("manifest: no two images of the lists share a group")
    return grouped


def group_numbers(items: Sequence[TrainItem]) -> NDArray[np.int64] | None:
    """A number for each item's group, in their order of appearance; None where there is none."""
    if not any(item.group for item in items):
        return None
    numbers: dict[tuple[str, int], int] = {}
    keys = [(item.group, 0 if item.group else at + 1) for at, item in enumerate(items)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def describe(scheme: LabelScheme, target: str) -> Labels:
    """What the head's outputs mean.

    Raises:
        UserError: the scheme has no such column.
    """
    names = scheme.columns.get(target, {})
    if not names:
        raise UserError(f"target {target!r}: {scheme.name} has {', '.join(scheme.columns)}")
    classes = tuple(names[code] for code in _codes(scheme, target))
    return Labels(scheme=scheme.name, column=target, classes=classes)


def _codes(scheme: LabelScheme, target: str) -> list[int]:
    names = scheme.columns[target]
    return [code for code in names if target == ORIGIN or names[code] != _NO_GENERATOR]
