"""Safe decoding of any image file to RGB uint8, with one policy for every odd kind of file.

Pixels are the file's own at full size, never a decoder's reduced-size shortcut: the high
frequencies are the evidence. EXIF orientation is noted and not applied, as in the published
protocol; alpha is dropped, not blended; 16-bit samples keep their upper 8 bits; of an animation
the first frame counts. A truncated file is an error, never grey-filled.
"""

import hashlib
import io
import struct
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

Pixels = NDArray[np.uint8]

MAX_PIXELS = 300_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".jpe", ".jfif")
_ORIENTATION_TAG = 274


class ImageError(Exception):
    """The bytes are not an image that can be decoded; the message says why."""


@dataclass(frozen=True)
class DecodedImage:
    """RGB pixels uint8 [H, W, 3] and what the file was.

    `note` names what was converted (`CMYK`, `16-bit`, `alpha dropped`, `palette`, `grey`,
    `first of 12 frames`), comma-separated; `orientation` is the EXIF value, 1 where none.
    """

    pixels_HWC: Pixels
    format: str
    width: int
    height: int
    orientation: int
    note: str


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decode JPEG, PNG, WebP, BMP, GIF or TIFF bytes.

    Raises:
        ImageError: empty, not an image, truncated, corrupt, or more than `max_pixels`.
    """
    if not data:
        raise ImageError("empty file (0 bytes)")
    # Both are settings of the process that another library may have loosened.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bombs are refused below by an exact bound
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(f"{width}×{height} pixels, more than {max_pixels:,} are refused")
            frames = getattr(image, "n_frames", 1)
            pixels, notes = _to_rgb(image)
            orientation = int(image.getexif().get(_ORIENTATION_TAG, 1) or 1)
    except UnidentifiedImageError:
        raise ImageError(_unidentified(data)) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from None
    except _DECODER_ERRORS as error:
        raise ImageError(f"corrupt or truncated: {error}") from None
    if frames > 1:
        notes.append(f"first of {frames} frames")
    if orientation != 1:
        notes.append(f"EXIF orientation {orientation} not applied")
    return DecodedImage(pixels, str(image.format), width, height, orientation, ", ".join(notes))


# What Pillow's decoders raise on damaged files, seen by fuzzing each format.
_DECODER_ERRORS = (
    OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, IndexError, KeyError,
    TypeError, OverflowError, MemoryError, AttributeError, AssertionError, RuntimeError,
    ZeroDivisionError, NotImplementedError,
)  # fmt: skip


def _to_rgb(image: Image.Image) -> tuple[Pixels, list[str]]:
    notes = []
    mode = image.mode
    if mode.startswith("I;16") or mode in {"I", "F"}:
        return _wide_to_rgb(image, mode)
    if mode == "P" or mode == "PA":
        notes.append("palette")
    elif mode in {"L", "LA", "1"}:
        notes.append("grey")
    elif mode not in {"RGB", "RGBA"}:
        notes.append(mode)
    if mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        notes.append("alpha dropped")
    if mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB some palettes blend
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return np.array(rgb, dtype=np.uint8), notes


def _wide_to_rgb(image: Image.Image, mode: str) -> tuple[Pixels, list[str]]:
    values = np.asarray(image)
    if mode == "F":
        raise ImageError("floating-point samples have no agreed range; convert the file first")
    if mode == "I" and (values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF):
        raise ImageError("32-bit samples have no agreed range; convert the file first")
    grey = (values.astype(np.int64) >> 8).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2), ["16-bit", "grey"]


def _unidentified(data: bytes) -> str:
    start = data[:64].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, not an image"
    if b"\0" not in data[:4096]:
        return "text, not an image"
    return "not a JPEG, PNG, WebP, BMP, GIF or TIFF image"


def sha256(data: bytes) -> str:
    """Hex sha256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def pixel_sha256(pixels_HWC: Pixels) -> str:
    """Hex sha256 of shape and RGB samples: equal exactly where the pictures are."""
    digest = hashlib.sha256(repr(pixels_HWC.shape).encode())
    digest.update(np.ascontiguousarray(pixels_HWC).data)
    return digest.hexdigest()
