"""Names of the perturbed images, as published: `testset/<content>/<origin>/<generator>/<index>`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rayapp.errors import UserError
from rayapp.labels import AnnotationList, Item, item_id

Order = Literal["clean", "legacy"]
_INDEX_DIGITS = 5  # of the published names


@dataclass(frozen=True)
class Target:
    """One image to perturb: its item, the file it is made from, and its name in the new set."""

    item: Item
    source: str
    name: str


def targets(lists: Sequence[AnnotationList], order: Order) -> list[list[Target]]:
    """What each list becomes, numbered through all lists in order.

    Args:
        lists: of one label scheme with the columns origin, content and generator.
        order: `clean` takes each image once, in the first list that names it; `legacy` keeps
            repeats within a list and across lists, as the published lists do, the k-th repeat
            of a path under the id `path#k`.

    Raises:
        UserError: the scheme lacks one of the three columns.
    """
    seen: dict[str, int] = {}
    index = 0
    result = []
    for one in lists:
        named = []
        for item in one.items:
            identity = item_id(item.path)
            repeat = seen[identity] = seen.get(identity, -1) + 1
            if repeat and order == "clean":
                continue
            unique = Item(f"{identity}#{repeat}" if repeat else identity, item.path, item.labels)
            named.append(Target(unique, identity, _name(one, item, index)))
            index += 1
        result.append(named)
    return result


def _name(one: AnnotationList, item: Item, index: int) -> str:
    given = dict(zip(one.scheme.columns, item.labels, strict=False))
    missing = [c for c in ("origin", "content", "generator") if c not in given]
    if missing:
        raise UserError(f"{one.source}: label scheme {one.scheme.name} has no column {missing[0]}")
    parts = ["testset", slug(one.scheme.names("content")[given["content"]])]
    parts.append("synthetic" if given["origin"] else "real")
    if given["origin"]:
        parts.append(slug(one.scheme.names("generator")[given["generator"]]))
    return "/".join([*parts, f"{index:0{_INDEX_DIGITS}d}.webp"])


def slug(name: str) -> str:
    """`DALL-E 3` → `dalle3`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
