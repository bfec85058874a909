"""Photographs to measure with: crops of real ones, 512 to 1024 px a side, in three formats.

A photograph smaller than the largest crop is continued by mirroring, so that its pixels stay its
own and no resampling smooths them. `PHOTOS=folder` takes one's own photographs instead.

    python benchmarks/photographs.py FOLDER COUNT
"""

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from rayapp.dataset.images import decode
from rayapp.demo.photographs import own_photographs, shipped_photographs
from rayapp.transforms import generator

SIDES = 512, 1024  # px, both ends included
_FORMATS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("jpg", "JPEG", {"quality": 90}),
    ("png", "PNG", {}),
    ("webp", "WEBP", {"quality": 90}),
)
_REAL = "0,0,4,4"  # of the label scheme `demo`


def files(distinct: int, sides: tuple[int, int] = SIDES) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of so many distinct crops; the same ones every time."""
    folder = os.environ.get("PHOTOS")
    photographs = own_photographs(folder) if folder else shipped_photographs()
    opened = [decode(one.read()).pixels_HWC for one in photographs]
    for index in range(distinct):
        pixels_HWC = opened[index % len(opened)]
        suffix, name, options = _FORMATS[index // len(opened) % len(_FORMATS)]
        rng = generator(0, "photographs", str(index))
        height, width = (int(side) for side in rng.integers(sides[0], sides[1] + 1, 2))
        below, right = (max(sides[1] - have, 0) for have in pixels_HWC.shape[:2])
        whole = cv2.copyMakeBorder(pixels_HWC, 0, below, 0, right, cv2.BORDER_REFLECT_101)
        top = int(rng.integers(0, whole.shape[0] - height + 1))
        left = int(rng.integers(0, whole.shape[1] - width + 1))
        crop_HWC = np.ascontiguousarray(whole[top : top + height, left : left + width])
        sink = io.BytesIO()
        Image.fromarray(crop_HWC).save(sink, name, **options)
        yield f"{index:05d}.{suffix}", sink.getvalue()


def lay_out(
    folder: Path, count: int, *, distinct: int = 300, sides: tuple[int, int] = SIDES
) -> Path:
    """`count` images under `folder`/images, the distinct ones repeated by hard links; their list.

    The list is of the label scheme `demo`; its paths start at `folder`.
    """
    originals, images = folder / "distinct", folder / "images"
    originals.mkdir(parents=True)
    images.mkdir()
    for name, data in files(min(distinct, count), sides):
        (originals / name).write_bytes(data)
    names = sorted(originals.iterdir())
    lines = []
    for index in range(count):
        source = names[index % len(names)]
        target = images / f"{index:06d}{source.suffix}"
        os.link(source, target)
        lines.append(f"images/{target.name},{_REAL}\n")
    annotations = folder / "list.txt"
    annotations.write_text("".join(lines))
    return annotations


if __name__ == "__main__":
    print(lay_out(Path(sys.argv[1]), int(sys.argv[2])))
