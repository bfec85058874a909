"""Which of the files in a folder are images: by their names, else by how they begin."""

import posixpath
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from rayapp.dataset.clutter import clutter_kind
from rayapp.dataset.formats import named_as, starts_as
from rayapp.storage.store import Stat, Store

_HEAD_BYTES = 32
_THREADS = 8  # an object store answers slowly, but many


def images_among(store: Store, found: Iterable[Stat]) -> tuple[list[str], Counter[str]]:
    """Keys of the images, in order, and the kinds of what is left out, counted.

    A file named as an image is one: what it holds instead is for its decoder to name. Of a name
    that tells nothing (`IMG_0001`, `photo.dat`) the first 32 bytes tell.

    Raises:
        OSError: a file of such a name can't be read.
    """
    images: list[str] = []
    left_out: Counter[str] = Counter()
    unknown: list[Stat] = []
    for stat in found:
        if kind := clutter_kind(stat.key):
            left_out[kind] += 1
        elif (named := named_as(stat.key)) == "image":
            images.append(stat.key)
        elif named == "unknown":
            unknown.append(stat)
        else:
            left_out[_ending(stat.key)] += 1
    with ThreadPoolExecutor(_THREADS) as threads:
        kinds = list(threads.map(lambda stat: _begins_as(store, stat), unknown))
    for stat, kind in zip(unknown, kinds, strict=True):
        if kind:
            images.append(stat.key)
        else:
            left_out[_ending(stat.key)] += 1
    return sorted(images), left_out


def describe_left_out(left_out: Counter[str], most: int = 6) -> str:
    """`3 .txt, 1 .mov` of files left out, the most frequent kinds first."""
    shown = [f"{count:,} {kind}" for kind, count in left_out.most_common(most)]
    others = len(left_out) - len(shown)
    return ", ".join([*shown, *([f"{others:,} other kinds"] if others else [])])


def _begins_as(store: Store, stat: Stat) -> str:
    return starts_as(store.get_range(stat.key, 0, min(_HEAD_BYTES, stat.size))) if stat.size else ""


def _ending(key: str) -> str:
    name = posixpath.basename(key)
    ending = posixpath.splitext(name)[1].lower()
    return ending or (name if name.startswith(".") else "without an ending")
