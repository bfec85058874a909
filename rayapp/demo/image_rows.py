"""The work on one image of the demo's data: a crop, or a crop passed through a generator."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from rayapp.dataset.images import sha256
from rayapp.demo import generators, photographs
from rayapp.demo.generators import FAMILIES
from rayapp.demo.photographs import Crop, Photograph
from rayapp.models.autoencoders.tiny import Family
from rayapp.run import row_work
from rayapp.storage.store import Store


def _weights_key(family: Family) -> str:
    return f"generators/{family.replace(' ', '-')}.safetensors"


@dataclass
class DemoImages:
    """Row work: render and write one image."""

    photos: Sequence[Photograph]
    crops_per_photograph: int
    weights: dict[str, dict[str, Tensor]]
    store: Store
    _render: dict[str, generators.Reconstruction] = field(default_factory=dict)

    def setup(self) -> None:
        """Build the generators from their weights, one torch thread a worker."""
        torch.set_num_threads(1)
        self._render = {f: generators.reconstruct(f, w) for f, w in self.weights.items()}  # type: ignore[arg-type]

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """One written image a row."""
        return row_work.each(batch, self._one)

    def _one(self, row: row_work.Row) -> row_work.Row:
        photo = self.photos[row["photo"]]
        crop = _crops(photo, self.crops_per_photograph)[row["number"]]
        pixels, psnr = crop.pixels_HWC, None
        if row["origin"]:
            pixels = self._render[FAMILIES[row["generator"]]](crop.pixels_HWC)
            psnr = generators.psnr_db(pixels, crop.pixels_HWC)
        data = encode_stored(pixels)
        self.store.put(row["path"], data)
        height, width = pixels.shape[:2]
        return {
            "sha256": sha256(data),
            "bytes": len(data),
            "width": width,
            "height": height,
            "format": "PNG",
            "psnr_db": psnr,
        }


@lru_cache(maxsize=2)
def _crops(photo: Photograph, most: int) -> list[Crop]:
    return photographs.crops(photo, most)


def encode_stored(pixels_HWC: Any) -> bytes:
    """PNG without compression: the file's size tells the image's size and nothing else."""
    sink = io.BytesIO()
    Image.fromarray(pixels_HWC).save(sink, "PNG", compress_level=0)
    return sink.getvalue()
