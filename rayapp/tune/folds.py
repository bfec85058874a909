"""Folds of a training list: each leaves out one generator, and images of its own to judge by.

No image of a test set is ever looked at. A fold's images to judge by are a part of the list that
is cut by photograph (group), so that no scene is trained on and judged by.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.labels import Item, LabelScheme, item_id, read_lists, write_list
from rayapp.storage.store import Store
from rayapp.storage.uris import split_uri
from rayapp.tune.settings import TuneSettings

TRAIN_LIST, HEAD_LIST, JUDGE_LIST = "train.txt", "head.txt", "validation.txt"
_MIN_OF_A_KIND = 5


@dataclass(frozen=True)
class Fold:
    """One generator left out: where its lists lie, and the photograph of each image judged by."""

    name: str
    generator: str
    folder: str
    groups: Mapping[str, str]

    def list_uri(self, name: str) -> str:
        """URI of one of the fold's lists."""
        return f"{self.folder}/{name}"


@dataclass(frozen=True)
class _Listed:
    """The images of the training and the head lists, and what they are cut by."""

    scheme: LabelScheme
    train: Sequence[Item]
    head: Sequence[Item]
    groups: Mapping[str, str]

    def origin(self, item: Item) -> int:
        return item.labels[list(self.scheme.columns).index("origin")]

    def generator(self, item: Item) -> str:
        code = item.labels[list(self.scheme.columns).index("generator")]
        return self.scheme.names("generator")[code]

    def group(self, item: Item) -> str:
        return self.groups.get(item_id(item.path), item_id(item.path))


def make_folds(settings: TuneSettings, scheme: LabelScheme, store: Store) -> list[Fold]:
    """The folds, their lists written under `folds/`.

    Fold k of the K generators of the list judges by the k-th part of its photographs: their reals,
    their images by the fold's generator, and those by the others, which tell how it does on what it
    knows. It trains on the other parts without the fold's generator. The head's lists lose the
    generator and those photographs too.

    Raises:
        UserError: a generator that the list does not have, or too few images of a kind.
    """
    listed = _listed(settings, scheme)
    found = sorted({listed.generator(item) for item in listed.train if listed.origin(item)})
    if len(found) < 2:
        raise UserError(f"annotations: one generator only ({', '.join(found)}), none to hold out")
    for name in settings.folds:
        if name not in found:
            raise UserError(f"folds: {name!r} is not in the list (it has {', '.join(found)})")
    part_of = _parts(listed, len(found))
    return [
        _fold(name, found.index(name), listed, part_of, settings, store)
        for name in settings.folds or found
    ]


def _listed(settings: TuneSettings, scheme: LabelScheme) -> _Listed:
    for column in ("origin", "generator"):
        if column not in scheme.columns:
            raise UserError(
                f"scheme {scheme.name} has no column {column}: no generator to hold out"
            )
    short = next(
        (
            item
            for one in read_lists(settings.annotations, scheme)
            for item in one.items
            if len(item.labels) < len(scheme.columns)
        ),
        None,
    )
    if short:
        raise UserError(f"{settings.annotations[0]}: {short.path} names no generator")
    groups: dict[str, str] = {}
    if settings.manifest:
        table = manifest.read_table(*split_uri(settings.manifest))
        if "group" not in table.column_names:
            raise UserError(f"{settings.manifest}: has no column group")
        pairs = zip(table["path"].to_pylist(), table["group"].to_pylist(), strict=True)
        groups = {item_id(path): group for path, group in pairs if group}
    return _Listed(
        scheme,
        _once(settings.annotations, scheme),
        _once(settings.head_annotations, scheme),
        groups,
    )


def _once(uris: Sequence[str], scheme: LabelScheme) -> list[Item]:
    """Every image once; the lists may repeat some."""
    items = {item_id(i.path): i for one in read_lists(uris, scheme) for i in one.items}
    return list(items.values())


def _parts(listed: _Listed, number: int) -> dict[str, int]:
    """Group → part; groups in the order of a hash go to the part with the fewest images."""
    sizes: dict[str, int] = {}
    for item in listed.train:
        sizes[listed.group(item)] = sizes.get(listed.group(item), 0) + 1
    parts, filled = {}, [0] * number
    for group in sorted(sizes, key=lambda group: (-sizes[group], _hash(group))):
        part = filled.index(min(filled))
        parts[group] = part
        filled[part] += sizes[group]
    return parts


def _fold(
    generator: str,
    part: int,
    listed: _Listed,
    part_of: Mapping[str, int],
    settings: TuneSettings,
    store: Store,
) -> Fold:
    def kept(items: Sequence[Item]) -> list[Item]:
        return [
            item
            for item in items
            if part_of.get(listed.group(item)) != part and listed.generator(item) != generator
        ]

    judged = [item for item in listed.train if part_of[listed.group(item)] == part]
    judged = _thinned(judged, settings.fold_images, listed)
    train, head = kept(listed.train), kept(listed.head)
    held = sum(listed.generator(item) == generator for item in judged)
    counts = {
        "images of it to judge by": held,
        "real images to judge by": sum(not listed.origin(item) for item in judged),
        "real images to train on": sum(not listed.origin(item) for item in train),
        "synthetic images to train on": sum(listed.origin(item) for item in train),
    }
    for what, count in counts.items():
        if count < _MIN_OF_A_KIND:
            raise UserError(
                f"fold without {generator}: {count} {what}, at least {_MIN_OF_A_KIND} are wanted"
            )
    name = "".join(c if c.isalnum() else "-" for c in generator.lower())
    folder = f"folds/{name}"
    for key, items in ((TRAIN_LIST, train), (HEAD_LIST, head), (JUDGE_LIST, judged)):
        if items:
            write_list(store, f"{folder}/{key}", items, listed.scheme)
    groups = {item_id(item.path): listed.group(item) for item in judged}
    return Fold(name, generator, store.uri(folder), groups)


def _thinned(items: list[Item], most: int, listed: _Listed) -> list[Item]:
    """At most so many: of each origin and generator its share, first by a hash of the path."""
    if len(items) <= most:
        return items
    kinds: dict[Any, list[Item]] = {}
    for item in sorted(items, key=lambda item: _hash(item.path)):
        kinds.setdefault(listed.generator(item), []).append(item)
    chosen = {
        item.path
        for kind in kinds.values()
        for item in kind[: max(_MIN_OF_A_KIND, most * len(kind) // len(items))]
    }
    return [item for item in items if item.path in chosen]


def _hash(text: str) -> str:
    return hashlib.sha256(f"fold\0{text}".encode()).hexdigest()
