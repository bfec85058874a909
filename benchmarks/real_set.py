"""A folder of real photographs and generated images: `real/SOURCE/*`, `synthetic/FAMILY/*`.

A manifest (`manifest.csv` in the folder, or another file) may say more of a path: `family`,
`source`, and `group` or `prompt`. Images of one group are one picture in other crops, or of one
prompt or scene: they stay on one side of every fold, and intervals resample them together. Without
a manifest files that differ in a trailing number alone (`dog-1.jpg`, `dog-2.jpg`), or in where they
were cut out (`sheet__x0y256.png`), are one group.
"""

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rayapp.config.errors import UserError
from rayapp.dataset.images import ImageError, decode, named_as

Ints = NDArray[np.int64]
_CUT = re.compile(r"__x[0-9]+y[0-9]+$")
_SEPARATED = re.compile(r"[ _(-]\(?[0-9]{1,6}\)?$")
_MOST_TAKES = 12  # of one scene; more files that differ in a number were counted by a camera


@dataclass(frozen=True)
class Picture:
    """One image: its path under the folder, 1 for synthetic, where it is from, and its group."""

    path: str
    origin: int
    kind: str  # the source of a real image, the family of a synthetic one
    group: str


@dataclass(frozen=True)
class RealSet:
    """All images, the real ones first, each class by path."""

    folder: Path
    pictures: Sequence[Picture]
    left_out: Sequence[str] = field(default=())  # a line each: which file, and why

    @property
    def origins_N(self) -> Ints:
        """1 synthetic, 0 real."""
        return np.array([one.origin for one in self.pictures], dtype=np.int64)

    @property
    def kinds_N(self) -> NDArray[np.str_]:
        """Source or family of each image; a real source never has a family's name."""
        return np.array([f"{'rs'[one.origin]}:{one.kind}" for one in self.pictures])

    @property
    def groups_N(self) -> NDArray[np.str_]:
        """The group of each image."""
        return np.array([f"{'rs'[one.origin]}:{one.group}" for one in self.pictures])

    def kinds(self, origin: int) -> list[str]:
        """The sources of reals, or the families of synthetics, by name."""
        return sorted({one.kind for one in self.pictures if one.origin == origin})

    @property
    def files(self) -> list[Path]:
        """The file of each image."""
        return [self.folder / one.path for one in self.pictures]


def read_real_set(folder: Path, manifest: Path | None = None) -> RealSet:
    """Every image under `real/` and `synthetic/` that can be decoded; the others are named.

    Raises:
        UserError: a folder without one of the two, fewer than two sources or families, or a
            manifest without paths.
    """
    told = _manifest(folder, manifest)
    pictures: list[Picture] = []
    left_out: list[str] = []
    for origin, name in enumerate(("real", "synthetic")):
        found = sorted(p for p in (folder / name).glob("*/**/*") if named_as(p.name) == "image")
        if not found:
            raise UserError(f"{folder}: no images in {name}/{('SOURCE', 'FAMILY')[origin]}/")
        faults = {file: fault for file in found if (fault := _fault(file))}
        left_out += [f"{file.relative_to(folder)}: {fault}" for file, fault in faults.items()]
        paths = [file.relative_to(folder).as_posix() for file in found if file not in faults]
        groups = _groups(paths)
        for path in paths:
            row = told.get(path, {})
            kind = (row.get("family") if origin else "") or path.split("/")[1]
            group = row.get("group") or row.get("prompt") or groups[path]
            pictures.append(Picture(path, origin, kind, group))
    one = RealSet(folder, pictures, left_out)
    for origin, what in ((0, "sources of real images"), (1, "families of generators")):
        if len(one.kinds(origin)) < 2:
            raise UserError(f"{folder}: {len(one.kinds(origin))} {what}; at least 2 are wanted")
    return one


def _fault(file: Path) -> str:
    """Why it can't be decoded; nothing where it can."""
    try:
        decode(file.read_bytes())
    except (ImageError, OSError) as error:
        return str(error)
    return ""


def _manifest(folder: Path, given: Path | None) -> dict[str, dict[str, str]]:
    file = given or folder / "manifest.csv"
    if given is None and not file.is_file():
        return {}
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    if rows and "path" not in rows[0]:
        raise UserError(f"{file}: has no column path")
    return {row["path"]: row for row in rows}


def _groups(paths: Sequence[str]) -> Mapping[str, str]:
    """The group of each path: it without suffix, where it was cut out, and a number at its end."""
    short = {path: _without_number(path) for path in paths}
    stems = defaultdict(set)
    for path in paths:
        stems[short[path]].add(_stem(path))
    return {p: short[p] if len(stems[short[p]]) <= _MOST_TAKES else _stem(p) for p in paths}


def _stem(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/{_CUT.sub('', name.rpartition('.')[0])}"


def _without_number(path: str) -> str:
    """Hexadecimal ids may end in digits: only what is set apart is a number."""
    folder, _, stem = _stem(path).rpartition("/")
    return f"{folder}/{_SEPARATED.sub('', stem) or stem}"


def deal(names_N: NDArray[np.str_], chosen_N: NDArray[np.bool_], num_parts: int) -> Ints:
    """Part 0 … of each chosen image, -1 of the others; images of one name go together.

    Names in the order of a hash go to the part with the fewest images, large ones first.
    """
    sizes = {str(name): int((names_N[chosen_N] == name).sum()) for name in set(names_N[chosen_N])}
    part, filled = {}, [0] * num_parts
    for name in sorted(sizes, key=lambda name: (-sizes[name], _hash(name))):
        part[name] = filled.index(min(filled))
        filled[part[name]] += sizes[name]
    return np.array(
        [part[str(n)] if ok else -1 for n, ok in zip(names_N, chosen_N, strict=True)],
        dtype=np.int64,
    )


def _hash(text: str) -> str:
    return hashlib.sha256(f"real\0{text}".encode()).hexdigest()
