"""Folds of a training list: each leaves something out, and images of its own to judge by.

Left out is a family of generators, one model, or one source of real images. No image of a test set
is ever looked at. A fold's images to judge by are a part of the list that is cut by photograph
(group), so that no scene is trained on and judged by.
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
from rayapp.tune.settings import LeaveOut, TuneSettings

TRAIN_LIST, HEAD_LIST, JUDGE_LIST = "train.txt", "head.txt", "validation.txt"
_MIN_OF_A_KIND = 5


@dataclass(frozen=True)
class Fold:
    """What is left out, where the fold's lists lie, and the photograph of each image judged by.

    `held` are the ids of the images to judge by of what is left out.
    """

    name: str
    left_out: str
    leave_out: LeaveOut
    folder: str
    groups: Mapping[str, str]
    held: frozenset[str]

    @property
    def held_out(self) -> tuple[str, ...]:
        """What evaluate takes as `held_out`: generators never trained on, no sources of reals."""
        return () if self.leave_out == "source" else (self.left_out,)

    def list_uri(self, name: str) -> str:
        """URI of one of the fold's lists."""
        return f"{self.folder}/{name}"


@dataclass(frozen=True)
class _Listed:
    """The images of the training and the head lists, and what they are cut by."""

    scheme: LabelScheme
    leave_out: LeaveOut
    train: Sequence[Item]
    head: Sequence[Item]
    groups: Mapping[str, str]
    sources: Mapping[str, str]

    def origin(self, item: Item) -> int:
        return item.labels[list(self.scheme.columns).index("origin")]

    def kind(self, item: Item) -> str:
        """What may be left out of a list: its generator or model, or the source of a real."""
        if self.leave_out == "source":
            return "synthetic" if self.origin(item) else self.sources.get(item_id(item.path), "")
        code = item.labels[list(self.scheme.columns).index(self.leave_out)]
        return self.scheme.names(self.leave_out)[code]

    def can_be_held(self, item: Item) -> bool:
        """Whether an image is of the class of which something is left out."""
        return bool(self.origin(item)) == (self.leave_out != "source")

    def group(self, item: Item) -> str:
        return self.groups.get(item_id(item.path), item_id(item.path))


def make_folds(settings: TuneSettings, scheme: LabelScheme, store: Store) -> list[Fold]:
    """The folds, their lists written under `folds/`.

    Fold k of K judges by the k-th part of the list's photographs: their reals, their images by
    what the fold leaves out, and those by the others, which tell how it does on what it knows. It
    trains on the other parts without what it leaves out. The head's lists lose the same. Of a
    source of real images that is left out, every image is judged by, as none is trained on.

    Raises:
        UserError: a name that the list does not have, or too few images of a kind.
    """
    listed = _listed(settings, scheme)
    found = sorted({listed.kind(item) for item in listed.train if listed.can_be_held(item)})
    what = "source of real images" if settings.leave_out == "source" else settings.leave_out
    if len(found) < 2:
        raise UserError(f"annotations: one {what} only ({', '.join(found)}), none to hold out")
    for name in settings.folds:
        if name not in found:
            raise UserError(f"folds: {name!r} is not in the list (it has {', '.join(found)})")
    part_of = _parts(listed, len(found))
    return [
        _fold(name, found.index(name), listed, part_of, settings, store)
        for name in settings.folds or found
    ]


def _listed(settings: TuneSettings, scheme: LabelScheme) -> _Listed:
    column = "generator" if settings.leave_out == "source" else settings.leave_out
    for wanted in ("origin", column):
        if wanted not in scheme.columns:
            raise UserError(f"scheme {scheme.name} has no column {wanted}: nothing to hold out")
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
        raise UserError(f"{settings.annotations[0]}: {short.path} names no {column}")
    groups = _told(settings, "group") if settings.manifest else {}
    sources = _told(settings, "source") if settings.leave_out == "source" else {}
    listed = _Listed(
        scheme,
        settings.leave_out,
        _once(settings.annotations, scheme),
        _once(settings.head_annotations, scheme),
        groups,
        sources,
    )
    if unknown := [i.path for i in listed.train if listed.can_be_held(i) and not listed.kind(i)]:
        raise UserError(
            f"{settings.manifest}: names no source of {len(unknown)} real images; "
            f"first: {unknown[0]}"
        )
    return listed


def _told(settings: TuneSettings, column: str) -> dict[str, str]:
    """What a column of the manifest says of each image, by its id."""
    assert settings.manifest is not None
    table = manifest.read_table(*split_uri(settings.manifest))
    if column not in table.column_names:
        raise UserError(f"{settings.manifest}: has no column {column}")
    pairs = zip(table["path"].to_pylist(), table[column].to_pylist(), strict=True)
    return {item_id(path): value for path, value in pairs if value}


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
    left_out: str,
    part: int,
    listed: _Listed,
    part_of: Mapping[str, int],
    settings: TuneSettings,
    store: Store,
) -> Fold:
    def is_held(item: Item) -> bool:
        return listed.can_be_held(item) and listed.kind(item) == left_out

    # Photographs whose images are judged by; a source's own are, whatever part they are in.
    shown = {group for group, of in part_of.items() if of == part}
    if listed.leave_out == "source":
        shown |= {listed.group(item) for item in listed.train if is_held(item)}

    def kept(items: Sequence[Item]) -> list[Item]:
        return [item for item in items if listed.group(item) not in shown and not is_held(item)]

    judged = [item for item in listed.train if listed.group(item) in shown]
    judged = _thinned(judged, settings.fold_images, listed)
    train, head = kept(listed.train), kept(listed.head)
    _check_enough(left_out, listed, train, judged, sum(map(is_held, judged)))
    name = "".join(c if c.isalnum() else "-" for c in left_out.lower())
    folder = f"folds/{name}"
    for key, items in ((TRAIN_LIST, train), (HEAD_LIST, head), (JUDGE_LIST, judged)):
        if items:
            write_list(store, f"{folder}/{key}", items, listed.scheme)
    groups = {item_id(item.path): listed.group(item) for item in judged}
    held = frozenset(item_id(item.path) for item in judged if is_held(item))
    return Fold(name, left_out, listed.leave_out, store.uri(folder), groups, held)


def _check_enough(
    left_out: str, listed: _Listed, train: Sequence[Item], judged: Sequence[Item], held: int
) -> None:
    origins = [listed.origin(item) for item in judged]
    other = 1 if listed.leave_out == "source" else 0
    counts = {
        "images of it to judge by": held,
        f"{'synthetic' if other else 'real'} images to judge by": origins.count(other),
        "real images to train on": sum(not listed.origin(item) for item in train),
        "synthetic images to train on": sum(listed.origin(item) for item in train),
    }
    for what, count in counts.items():
        if count < _MIN_OF_A_KIND:
            raise UserError(
                f"fold without {left_out}: {count} {what}, at least {_MIN_OF_A_KIND} are wanted"
            )


def _thinned(items: list[Item], most: int, listed: _Listed) -> list[Item]:
    """At most so many: of each origin and generator its share, first by a hash of the path."""
    if len(items) <= most:
        return items
    kinds: dict[Any, list[Item]] = {}
    for item in sorted(items, key=lambda item: _hash(item.path)):
        kinds.setdefault((listed.origin(item), listed.kind(item)), []).append(item)
    chosen = {
        item.path
        for kind in kinds.values()
        for item in kind[: max(_MIN_OF_A_KIND, most * len(kind) // len(items))]
    }
    return [item for item in items if item.path in chosen]


def _hash(text: str) -> str:
    return hashlib.sha256(f"fold\0{text}".encode()).hexdigest()
