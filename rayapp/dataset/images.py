"""Safe decoding of any image file to RGB uint8, with one policy for every odd kind of file.

Pixels are those that a person sees, whatever door they come in by (path, bytes, Pillow's image,
array): EXIF orientation applied, an ICC profile that is not sRGB applied (perceptual intent),
transparency on white, wide samples narrowed to their upper 8 bits, of several frames the first that
shows something. They are the file's own at full size, never a decoder's reduced-size shortcut: the
high frequencies are the evidence. A file that lacks pixels is an error, never grey-filled; bytes
that are missing after the last pixel are forgiven.

The published protocol saw files otherwise, and `published` repeats that: orientation not applied
(but a TIFF's, by its decoder), alpha dropped, no profile applied, always the first frame. The plans
`legacy` and `published` of perturb decode so; the size and pixels that download records of an
original are those too.
"""

import contextlib
import hashlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from rayapp.dataset.formats import (
    MAX_PIXELS,
    SUFFIXES,
    ImageError,
    formats_for,
    named_as,
    refuse_bomb,
    refuse_jxl_bomb,
    starts_as,
    why_not,
)
from rayapp.dataset.pixels import (
    DECODER_ERRORS,
    Pixels,
    has_srgb_colours,
    narrowed,
    orientation_of,
    scale_of,
    to_published,
    to_visible,
)

__all__ = [
    "MAX_PIXELS", "SUFFIXES", "DecodedImage", "ImageError", "Pixels", "decode", "decode_array",
    "decode_opened", "is_seen_as_stored", "named_as", "open_image", "perceptual_hash",
    "pixel_sha256", "sha256", "starts_as",
]  # fmt: skip

_HASH_SIDE = 16
_FLAT = 2.0  # grey levels, standard deviation
# Of bombs (refused by an exact bound below) and of damaged metadata. For the whole process:
# `catch_warnings` around each decode is not safe between threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class DecodedImage:
    """RGB pixels uint8 [H, W, 3] and what the file was.

    `width` and `height` are those of the pixels. `note` names what was converted (`CMYK`, `16-bit`,
    `alpha on white`, `palette`, `grey`, `ICC profile Display P3 applied`, `first of 12 frames`),
    comma-separated; `orientation` is the EXIF value, 1 where there is none that means something.
    """

    pixels_HWC: Pixels
    format: str
    width: int
    height: int
    orientation: int
    note: str


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, published: bool = False) -> DecodedImage:
    """Decode the bytes of an image file, of any kind that `formats` names.

    Args:
        data: the file.
        max_pixels: more are refused before they are unpacked.
        published: as the published protocol saw files, see above.

    Raises:
        ImageError: empty, not an image, truncated, corrupt, or more than `max_pixels`.
    """
    image = open_image(data, max_pixels=max_pixels)
    return _decoded(image, to_published if published else to_visible)


def open_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Pillow's image of a file, its header read and its size within bounds.

    Raises:
        ImageError: see decode.
    """
    if not data:
        raise ImageError("empty file (0 bytes)")
    with _named_errors(data):
        refuse_jxl_bomb(data, max_pixels)
        image = Image.open(io.BytesIO(data), formats=formats_for(data))
        refuse_bomb(image, max_pixels)
        return image


def decode_opened(image: Image.Image, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """The same of an image that Pillow has opened or made; of several frames from its current on.

    Raises:
        ImageError: see decode.
    """
    with _named_errors():
        refuse_bomb(image, max_pixels)
    return _decoded(image, to_visible)


def _decoded(
    image: Image.Image, to_rgb: Callable[[Image.Image], tuple[Pixels, list[str]]]
) -> DecodedImage:
    with _named_errors():
        pixels_HWC, notes = to_rgb(image)
    # A JPEG that carries more pictures (a phone's preview or depth) is a JPEG.
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    height, width = pixels_HWC.shape[:2]
    return DecodedImage(pixels_HWC, kind, width, height, orientation_of(image), ", ".join(notes))


def decode_array(values: NDArray[np.generic]) -> Pixels:
    """RGB uint8 [H, W, 3] of an array: grey [H, W], RGB [H, W, 3], with alpha [H, W, 2 or 4].

    Samples are uint8, bool, uint16 (their upper 8 bits count) or floats up to 1 or 255; an RGB
    uint8 array is given back as it is.

    Raises:
        ImageError: another shape or type, or floats of another range.
    """
    channels = values.shape[2] if values.ndim == 3 else 1
    if values.ndim not in (2, 3) or not 1 <= channels <= 4 or values.size == 0:
        raise ImageError(f"an array [H, W] or [H, W, 1 to 4] is wanted, not {list(values.shape)}")
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * 255
    elif values.dtype == np.uint16 or values.dtype.kind == "f":
        is_float = values.dtype.kind == "f"
        values = narrowed(values, scale_of(values.min(), values.max(), is_float=is_float))
    elif values.dtype != np.uint8:
        raise ImageError(f"samples uint8, bool, uint16 or float are wanted, not {values.dtype}")
    if channels == 3:
        return values.astype(np.uint8, copy=False)
    mode = {1: "L", 2: "LA", 4: "RGBA"}[channels]
    flat = np.ascontiguousarray(values.reshape(values.shape[:2]) if channels == 1 else values)
    return to_visible(Image.frombytes(mode, flat.shape[1::-1], flat.tobytes()))[0]


def is_seen_as_stored(image: Image.Image) -> bool:
    """Whether neither orientation nor profile changes the pixels of an opened RGB image."""
    return orientation_of(image) == 1 and has_srgb_colours(image)


@contextlib.contextmanager
def _named_errors(data: bytes = b"") -> Iterator[None]:
    """What Pillow raises on a file as ImageError; nothing is filled in for what is missing."""
    # A setting of the process that another library may have loosened.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    except UnidentifiedImageError:
        raise ImageError(why_not(data)) from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}") from None
    except MemoryError:
        raise ImageError("too large for the memory that is free") from None
    except DECODER_ERRORS as error:
        raise ImageError(f"corrupt or truncated: {error}") from None


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
