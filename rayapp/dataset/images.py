"""Safe decoding of any image file to RGB uint8, with one policy for every odd kind of file.

Pixels are the file's own at full size, never a decoder's reduced-size shortcut: the high
frequencies are the evidence. EXIF orientation is noted and not applied, as in the published
protocol (only a TIFF's is applied, by its decoder); alpha is dropped, not blended; 16-bit samples
keep their upper 8 bits; of an animation the first frame counts. A file that lacks pixels is an
error, never grey-filled; bytes that are missing after the last pixel are forgiven.
"""

import codecs
import hashlib
import io
import re
import struct
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

Pixels = NDArray[np.uint8]

# Where Pillow itself refuses; as RGB half a gigabyte.
MAX_PIXELS = 178_956_970
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".jpe", ".jfif")
_ORIENTATION_TAG = 274
_HASH_SIDE = 16
_FLAT = 2.0  # grey levels, standard deviation
_STARTS = re.compile(
    rb"(?P<JPEG>\xff\xd8\xff)|(?P<PNG>\x89PNG)|(?P<GIF>GIF8[79]a)|(?P<TIFF>II\*\0|MM\0\*)"
    rb"|(?P<WebP>RIFF....WEBP)",
    re.DOTALL,
)
# What Pillow's decoders raise on damaged files, seen in 120,000 of them over all formats.
_DECODER_ERRORS = (
    OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, struct.error,
)  # fmt: skip
# Of bombs (refused by an exact bound below) and of damaged metadata. For the whole process:
# `catch_warnings` around each decode is not safe between threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageError(Exception):
    """The bytes are not an image that can be decoded; the message says why."""


@dataclass(frozen=True)
class DecodedImage:
    """RGB pixels uint8 [H, W, 3] and what the file was.

    `note` names what was converted (`CMYK`, `16-bit`, `alpha dropped`, `palette`, `grey`,
    `first of 12 frames`), comma-separated; `orientation` is the EXIF value, 1 where there is none
    that means something.
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
    # A setting of the process that another library may have loosened.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(f"{width}×{height} pixels, more than {max_pixels:,} are refused")
        frames = getattr(image, "n_frames", 1)
        pixels, notes = _to_rgb(image)
    except UnidentifiedImageError:
        raise ImageError(_unidentified(data)) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from None
    except _DECODER_ERRORS as error:
        raise ImageError(f"corrupt or truncated: {error}") from None
    orientation = _orientation(image)
    if frames > 1:
        notes.append(f"first of {frames} frames")
    if orientation != 1:
        notes.append(f"EXIF orientation {orientation} not applied")
    # A JPEG that carries more pictures (a phone's preview or depth) is a JPEG.
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    return DecodedImage(pixels, kind, width, height, orientation, ", ".join(notes))


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION_TAG)
    except _DECODER_ERRORS:  # damaged metadata beside sound pixels
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _to_rgb(image: Image.Image) -> tuple[Pixels, list[str]]:
    mode = image.mode
    if mode.startswith("I;16") or mode in {"I", "F"}:
        return _wide_to_rgb(image, mode)
    # Pillow has no mode for wide colour samples: its decoders keep the upper 8 bits, as we want.
    notes = (
        ["16-bit"] if any(";16" in str(tile.args) for tile in getattr(image, "tile", [])) else []
    )
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
    start = _STARTS.match(data)
    if start:
        return f"corrupt or truncated: starts as a {start.lastgroup}, goes on as none"
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(data[:4096])
    except UnicodeDecodeError:
        text = "\0"
    if text.lstrip().lower().startswith(("<!doctype html", "<html")):
        return "a web page, not an image"
    return "not a JPEG, PNG, WebP, BMP, GIF or TIFF image" if "\0" in text else "text, not an image"


def perceptual_hash(pixels_HWC: Pixels) -> str | None:
    """What the picture looks like: 256 bits as 64 hex digits, None where it shows nothing.

    The DCT hash of the library ImageHash (`phash`, 16 × 16 signs of the lowest frequencies of a
    64 × 64 grey thumbnail). It survives re-encoding, resizing and small crops, not mirroring or
    turning; how far apart is near, `overlap` says. A flat picture has no hash: its signs are noise.
    """
    import imagehash  # here: it brings a second of imports, and few jobs need it

    side = _HASH_SIDE * 4
    grey = Image.fromarray(pixels_HWC).convert("L").resize((side, side), Image.Resampling.LANCZOS)
    if np.asarray(grey).std() < _FLAT:
        return None
    return str(imagehash.phash(grey, hash_size=_HASH_SIDE))


def sha256(data: bytes) -> str:
    """Hex sha256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def pixel_sha256(pixels_HWC: Pixels) -> str:
    """Hex sha256 of shape and RGB samples: equal exactly where the pictures are."""
    digest = hashlib.sha256(repr(pixels_HWC.shape).encode())
    digest.update(np.ascontiguousarray(pixels_HWC).data)
    return digest.hexdigest()
