"""Names of the perturbed images, as published: `testset/<content>/<origin>/<generator>/<index>`."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rayapp.config.errors import UserError
from rayapp.dataset.labels import AnnotationList, Item, item_id
from rayapp.perturb.settings import Draws

_INDEX_DIGITS = 5  # of the published names


@dataclass(frozen=True, slots=True)
class Target:
    """One image to perturb: its item, the file it is made from, and its name in the new set."""

    item: Item
    source_path: str
    name: str


def targets(lists: Sequence[AnnotationList], draws: Draws) -> list[list[Target]]:
    """What each list becomes, numbered through all lists in order.

    Args:
        lists: of one label scheme.
        draws: `clean` takes each image once, in the first list that names it; `legacy` and
            `published` keep repeats within a list and across lists, as the published lists do,
            the k-th repeat of a path under the id `path#k`.

    Raises:
        UserError: two lists have one name.
    """
    _check(lists)
    seen: dict[str, int] = {}
    index = 0
    result = []
    for one in lists:
        named = []
        for item in one.items:
            identity = item_id(item.path)
            repeat = seen[identity] = seen.get(identity, -1) + 1
            if repeat and draws == "clean":
                continue
            unique = Item(f"{identity}#{repeat}" if repeat else identity, item.path, item.labels)
            named.append(Target(unique, identity, _name(one, item, index)))
            index += 1
        result.append(named)
    return result


def _check(lists: Sequence[AnnotationList]) -> None:
    name, count = Counter(list_name(one.list_uri) for one in lists).most_common(1)[0]
    if count > 1:
        raise UserError(f"{count} annotation lists would be written as lists/{name}; rename one")


def _name(one: AnnotationList, item: Item, index: int) -> str:
    """`testset/<content>/<real|synthetic>/<generator>/<index>.webp`, less what no column says."""
    given = dict(zip(one.scheme.columns, item.labels, strict=False))
    parts = ["testset"]
    if "content" in given:
        parts.append(slug(one.scheme.names("content")[given["content"]]))
    parts.append("synthetic" if given["origin"] else "real")
    if given["origin"] and "generator" in given:
        parts.append(slug(one.scheme.names("generator")[given["generator"]]))
    return "/".join([*parts, f"{index:0{_INDEX_DIGITS}d}.webp"])


def slug(name: str) -> str:
    """`DALL-E 3` → `dalle3`; letters of any script stay."""
    return re.sub(r"[\W_]", "", name.lower()) or "unnamed"


def list_name(uri: str) -> str:
    """Name of the list of perturbed images: its own, `test_annotations_gan.txt` → `test_gan.txt`.

    The shortening is that of the published lists.
    """
    return uri.rsplit("/", 1)[-1].replace("test_annotations_", "test_")
