"""Safe decoding of any image file to RGB uint8, with one policy for every odd kind of file.

Pixels are those that a person sees, whatever door they come in by (path, bytes, Pillow's image,
array): EXIF orientation applied, an ICC profile that is not sRGB applied (perceptual intent),
transparency on white, wide samples narrowed to their upper 8 bits, of several frames the first that
shows something. They are the file's own at full size, never a decoder's reduced-size shortcut: the
high frequencies are the evidence. A file that lacks pixels is an error, never grey-filled; bytes
that are missing after the last pixel are forgiven.

The published protocol saw files otherwise, and `published` repeats that: orientation not applied
(but a TIFF's, by its decoder), alpha dropped, no profile applied, always the first frame. The draws
`legacy` and `published` of perturb decode so; the size and pixels that download records of an
original are those too.
"""

import hashlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from rayapp.dataset.formats import (
    MAX_PIXELS,
    SUFFIXES,
    ImageError,
    decoders_for,
    named_as,
    refuse_bomb,
    refuse_jxl_bomb,
    starts_as,
    why_not,
)
from rayapp.dataset.jpeg_rows import first_rows
from rayapp.dataset.pixels import (
    DECODER_ERRORS,
    Pixels,
    as_stored,
    has_srgb_colours,
    is_blank,
    narrowed,
    orientation_of,
    scale_of,
    to_published,
    to_visible,
)
from rayapp.transforms.codecs import decode_fast
from rayapp.transforms.operations import ImageHWC

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "Box",
    "DecodedImage",
    "ImageError",
    "Part",
    "Pixels",
    "decode",
    "decode_array",
    "decode_opened",
    "is_seen_as_stored",
    "named_as",
    "open_image",
    "perceptual_hash",
    "pixel_sha256",
    "sha256",
    "starts_as",
]

_RAISED = (*DECODER_ERRORS, MemoryError, Image.DecompressionBombError)
_JPEGS = "JPEG", "MPO"  # that carries more pictures (a phone's preview or depth) is one as well
_TURNED = 4  # from the next EXIF orientation on, rows are columns
_SMALL_BYTES = 1 << 17  # to leave out rows of a smaller file gains nothing
_HASH_SIDE = 16
_FLAT = 2.0  # grey levels, standard deviation
# Of bombs (refused by an exact bound below) and of damaged metadata. For the whole process:
# `catch_warnings` around each decode is not safe between threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels of a picture as it is seen
Part = Callable[[tuple[int, int]], Box]  # which part is wanted of a picture of [H, W] pixels


@dataclass(frozen=True)
class DecodedImage:
    """RGB pixels uint8 [H, W, 3] and what the file was.

    `width` and `height` are those of the whole picture, of which the pixels may be a part. `note`
    names what was converted (`CMYK`, `16-bit`, `alpha on white`, `palette`, `grey`, `ICC profile
    Display P3 applied`, `first of 12 frames`), comma-separated; `orientation` is the EXIF value, 1
    where there is none that means something.
    """

    pixels_HWC: Pixels
    format: str
    width: int
    height: int
    orientation: int
    note: str


def decode(
    data: bytes, *, max_pixels: int = MAX_PIXELS, published: bool = False, part: Part | None = None
) -> DecodedImage:
    """Decode the bytes of an image file, of any kind that `formats` names.

    Args:
        data: the file.
        max_pixels: more are refused before they are unpacked.
        published: as the published protocol saw files, see above.
        part: of whose pixels alone are wanted: they are those of the whole picture, and of a JPEG
            no rows below them are decoded.

    Raises:
        ImageError: empty, not an image, truncated, corrupt, or more than `max_pixels`.
    """
    whole = None
    if not published and (part is None or len(data) <= _SMALL_BYTES):
        whole = _plainly(data, max_pixels)
    if whole is None:
        image = open_image(data, max_pixels=max_pixels)
        if part is not None and not published and image.format in _JPEGS:
            found = _part_of_jpeg(image, data, part)
            if found is not None:
                return found
        whole = _decoded(image, to_published if published else to_visible)
    if part is None:
        return whole
    top, left, bottom, right = part((whole.height, whole.width))
    return replace(whole, pixels_HWC=whole.pixels_HWC[top:bottom, left:right])


def _plainly(data: bytes, max_pixels: int) -> DecodedImage | None:
    """A plain JPEG or WebP file without metadata, by the faster decoder; None of all else."""
    pixels_HWC = decode_fast(data, bare=True)
    if pixels_HWC is None or pixels_HWC.shape[0] * pixels_HWC.shape[1] > max_pixels:
        return None
    height, width = pixels_HWC.shape[:2]
    kind = "JPEG" if data[:2] == b"\xff\xd8" else "WEBP"
    return DecodedImage(pixels_HWC, kind, width, height, 1, "")


def _part_of_jpeg(image: Image.Image, data: bytes, part: Part) -> DecodedImage | None:
    """The part alone; None where only the whole tells which frame counts."""
    width, height = image.size if orientation_of(image) <= _TURNED else image.size[::-1]
    top, left, bottom, right = as_stored(part((height, width)), (height, width), image)
    frames = getattr(image, "n_frames", 1)
    fewer = first_rows(data, bottom)
    opened = Image.open(io.BytesIO(fewer), formats=_JPEGS[:1]) if fewer else image
    decoded = _decoded(opened, lambda one: to_visible(one.crop((left, top, right, bottom))))
    if frames > 1 and is_blank(decoded.pixels_HWC):
        return None
    notes = [decoded.note] * bool(decoded.note) + [f"first of {frames} frames"] * (frames > 1)
    return replace(decoded, width=width, height=height, note=", ".join(notes))


def open_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Pillow's image of a file, its header read and its size within bounds.

    Raises:
        ImageError: see decode.
    """
    if not data:
        raise ImageError("empty file (0 bytes)")
    kind = starts_as(data[:32])
    if kind == "JPEG XL":
        refuse_jxl_bomb(data, max_pixels)
    decoders = decoders_for(kind)
    try:
        image = Image.open(io.BytesIO(data), formats=decoders)
    except _RAISED as error:
        raise _named(error, data) from None
    refuse_bomb(image, max_pixels)
    return image


def decode_opened(image: Image.Image, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """The same of an image that Pillow has opened or made; of several frames from its current on.

    Raises:
        ImageError: see decode.
    """
    refuse_bomb(image, max_pixels)
    return _decoded(image, to_visible)


def _decoded(
    image: Image.Image, to_rgb: Callable[[Image.Image], tuple[Pixels, list[str]]]
) -> DecodedImage:
    # A setting of the process that another library may have loosened.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        pixels_HWC, notes = to_rgb(image)
    except _RAISED as error:
        raise _named(error) from None
    kind = "JPEG" if image.format in _JPEGS else str(image.format)
    height, width = pixels_HWC.shape[:2]
    return DecodedImage(pixels_HWC, kind, width, height, orientation_of(image), ", ".join(notes))


def decode_array(values: NDArray[np.generic]) -> Pixels:
    """RGB uint8 [H, W, 3] of an array as NumPy gives it of a picture; RGB uint8 as it is.

    Grey [H, W], with alpha [H, W, 2], RGB [H, W, 3], with alpha [H, W, 4]; uint8, or uint16, of
    which the upper 8 bits count; grey also as bool, or as floats up to 1 or 255.

    Raises:
        ImageError: another shape or type, or floats of another range.
    """
    channels = values.shape[2] if values.ndim == 3 else 1
    if values.ndim not in (2, 3) or not 1 <= channels <= 4 or values.size == 0:
        raise ImageError(f"an array [H, W] or [H, W, 1 to 4] is wanted, not {list(values.shape)}")
    is_float = values.dtype.kind == "f"
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * 255
    elif values.dtype == np.uint16 or (is_float and channels == 1):
        scale = scale_of(float(values.min()), float(values.max()), is_float=is_float)
        values = narrowed(values, scale)
    elif values.dtype != np.uint8:
        raise ImageError(f"RGB uint8 [H, W, 3] is wanted, not {values.dtype} {list(values.shape)}")
    if channels == 3:
        return values.astype(np.uint8, copy=False)
    flat = values.reshape(values.shape[:2]) if channels == 1 else values
    return to_visible(Image.fromarray(flat))[0]


def is_seen_as_stored(image: Image.Image) -> bool:
    """Whether neither orientation nor profile changes the pixels of an opened RGB image."""
    return orientation_of(image) == 1 and has_srgb_colours(image)


def _named(error: Exception, data: bytes = b"") -> ImageError:
    """What Pillow raised on a file, in words."""
    if isinstance(error, UnidentifiedImageError):
        return ImageError(why_not(data))
    if isinstance(error, Image.DecompressionBombError):
        return ImageError(f"too large: {error}")
    if isinstance(error, MemoryError):
        return ImageError("too large for the memory that is free")
    return ImageError(f"corrupt or truncated: {error}")


def perceptual_hash(pixels_HWC: Pixels) -> str | None:
    """What the picture looks like: 256 bits as 64 hex digits, None where it shows nothing.

    The DCT hash of the library ImageHash (`phash`, 16 × 16 signs of the lowest frequencies of a
    64 × 64 grey thumbnail). It survives re-encoding, resizing and small crops, not mirroring or
    turning; how far apart is near, `near_duplicates` says. A flat picture has no hash: its signs
    are noise.
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


def pixels_of(data: bytes, *, published: bool = False) -> ImageHWC:
    """The pixels that `decode` gives, by OpenCV where that is equal and faster.

    Raises:
        ImageError: see decode.
    """
    pixels_HWC = decode_fast(data, bare=not published)
    if pixels_HWC is None and not published and _seen_as_stored(data):
        pixels_HWC = decode_fast(data)
    return decode(data, published=published).pixels_HWC if pixels_HWC is None else pixels_HWC


def _seen_as_stored(data: bytes) -> bool:
    try:
        image = open_image(data)
        # A PNG's EXIF may stand behind its pixels.
        return is_seen_as_stored(image) and not (image.format == "PNG" and b"eXIf" in data)
    except ImageError:
        return False
