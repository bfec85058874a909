"""Which images the demo's data set has, before any is made."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from rayapp.config.errors import JobFailed
from rayapp.dataset.labels import load_scheme
from rayapp.demo import photographs
from rayapp.demo.generators import FAMILIES, HELD_OUT
from rayapp.demo.photographs import SPLITS, Crop, Photograph
from rayapp.run import record

REAL = "real"
COLUMNS = tuple(load_scheme("demo").columns)
CODES = {name: code for code, name in enumerate([*FAMILIES, REAL])}


def images_to_make(photos: Sequence[Photograph], crops_per_photograph: int) -> pa.Table:
    """One row an image to write: name, labels, split, and the crop that it is made of.

    Names are numbers in the order of a hash: they tell nothing of what an image is.

    Raises:
        JobFailed: a split is left without crops.
    """
    rows: list[dict[str, Any]] = []
    for index, photo in enumerate(photos):
        for crop in photographs.crops(photo, crops_per_photograph):
            for family in _families(photo.split, crop.number):
                row = _row(photo, crop, family) | {"photo": index}
                rows.append(row)
    if {row["split"] for row in rows} != set(SPLITS):
        raise JobFailed("a split is left without crops: the photographs are too small or smooth")
    rows.sort(key=lambda row: str(row.pop("shuffle")))
    for number, row in enumerate(rows):
        row["id"] = row["path"] = f"images/{number:05d}.png"
    return pa.Table.from_pylist(rows)


def _row(photo: Photograph, crop: Crop, family: str) -> dict[str, Any]:
    labels = (int(family != REAL), int(crop.grey), CODES[family], CODES[family])
    return {
        **dict(zip(COLUMNS, labels, strict=True)),
        "source": photo.source,
        "licence": photo.licence,
        "group": photo.scene,
        "split": photo.split,
        "number": crop.number,
        "shuffle": record.digest(photo.source.encode(), b"%d" % crop.number, family.encode()),
    }


def _families(split: str, number: int) -> list[str]:
    """What is made of one crop: real, and in test every family, else one of those not held out."""
    if split == "test":
        return [REAL, *FAMILIES]
    seen = [family for family in FAMILIES if family != HELD_OUT]
    return [REAL, seen[number % len(seen)]]
