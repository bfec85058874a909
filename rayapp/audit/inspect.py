"""The work on one image: does it decode, and what could tell its origin without looking at it."""

import functools
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from PIL import Image

from rayapp.audit.pixel_facts import pixel_facts
from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.containers import is_lossless_webp
from rayapp.dataset.declared import read_declared
from rayapp.dataset.images import decode, open_image, perceptual_hash, sha256
from rayapp.dataset.members import read_image
from rayapp.run import row_work
from rayapp.storage.store import Store
from rayapp.transforms.jpeg_layouts import read_jpeg_layout

EXTRA = {
    "container": pa.string(),
    "quality": pa.int16(),
    "tables": pa.string(),
    "subsampling": pa.string(),
    "metadata": pa.string(),
    "declared": pa.string(),
    "bit_depth": pa.int8(),
    "orientation": pa.int8(),
    "note": pa.string(),
    "perceptual_hash": pa.string(),
    "brightness": pa.float32(),
    "chroma": pa.float32(),
    "noise": pa.float32(),
}
_METADATA = {"exif": "EXIF", "icc_profile": "ICC", "xmp": "XMP", "comment": "comment"}


@dataclass
class AuditRows:
    """Row work: one image read once: bytes, pixels, hashes, container."""

    root: Store

    def setup(self) -> None:
        """What is imported on first use, and the known quality tables."""
        _qualities()
        import imagehash  # noqa: F401 - a second that the first image would wait

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """The facts of each image."""
        return row_work.each(batch, self._one)

    def _one(self, row: row_work.Row) -> row_work.Row:
        try:
            data = read_image(self.root, row)
        except (FileNotFoundError, IsADirectoryError):
            raise UserError("no such file") from None
        known = {"sha256": sha256(data), "bytes": len(data)}
        row.update(known)  # for the row of a file that turns out to be broken
        return known | inspect(data)


class StreamedAudit(AuditRows):
    """As `AuditRows`, of rows that bring more than their path: what is not found is empty."""

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """The facts of each image."""
        results = super().batch(batch)
        for one in results:
            if one["status"] != manifest.STATUS_OK:
                one |= dict.fromkeys(EXTRA)
        return results


def inspect(data: bytes) -> dict[str, Any]:
    """Facts of one image file, all but its hash and size; ImageError where it can't be decoded."""
    image = decode(data)
    return {
        "width": image.width,
        "height": image.height,
        "format": image.format,
        "bit_depth": 16 if "16-bit" in image.note else 8,
        "orientation": image.orientation,
        "note": image.note,
        "perceptual_hash": perceptual_hash(image.pixels_HWC),
        **pixel_facts(image.pixels_HWC),
        **container(data),
        "declared": read_declared(data).kind,
    }


def container(data: bytes) -> dict[str, Any]:
    """What an encoder left: container, JPEG quality, tables and subsampling, kinds of metadata."""
    image = open_image(data)
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    tables = getattr(image, "quantization", None) or {}
    names = {name for key, name in _METADATA.items() if image.info.get(key)}
    texts = {f"text {key}" for key in getattr(image, "text", ()) if len(key) < 40}
    if kind == "WEBP":
        kind += " lossless" if is_lossless_webp(data) else " lossy"
    facts: dict[str, Any] = {"container": kind, "metadata": ", ".join(sorted(names | texts))}
    if tables:
        flat = bytes(b for key in sorted(tables) for v in tables[key] for b in v.to_bytes(2, "big"))
        facts["tables"] = hashlib.sha256(flat).hexdigest()[:12]
        layout = read_jpeg_layout(image)
        facts["subsampling"] = layout.subsampling if layout else None
        facts["quality"] = _qualities().get(tuple(tables[min(tables)]))
    return facts


@functools.cache
def _qualities() -> dict[tuple[int, ...], int]:
    """Luminance table → the quality at which the usual encoder (libjpeg) writes it."""
    known: dict[tuple[int, ...], int] = {}
    for quality in range(100, 0, -1):
        sink = io.BytesIO()
        Image.new("L", (8, 8)).save(sink, "JPEG", quality=quality)
        known[tuple(Image.open(sink).quantization[0])] = quality  # type: ignore[attr-defined]
    return known
