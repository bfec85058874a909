"""From an image in any of Pillow's modes to the RGB pixels that a person sees, and what was done.

Shapes: H W · C channels red, green, blue.
"""

import functools
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from rayapp.dataset.formats import ImageError

Pixels = NDArray[np.uint8]

_ORIENTATION_TAG = 274
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_UPSIDE_DOWN, _MIRRORED = {3, 4, 7, 8}, {2, 3, 6, 7}  # orientations: as a picture is seen
_STRIP_PIXELS = 1 << 21  # done at once: what is made on the way is as large as a strip
_MOST_FRAMES = 100  # looked at for one that shows something
_SAME = 2  # levels: by more, a profile that is sRGB moves no colour (measured: 1; others: from 9)
_INTENT = ImageCms.Intent.PERCEPTUAL  # as browsers do
# What Pillow's decoders raise on damaged files, seen in 120,000 of them over all formats.
DECODER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    RuntimeError,
    struct.error,
)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation that is still to be applied; 1 where there is none that means something.

    A JPEG XL's is done by its decoder, unless it holds a JPEG, which is decoded as it was.
    """
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1
    try:
        found = image.getexif().get(_ORIENTATION_TAG)
    except DECODER_ERRORS:  # damaged metadata beside sound pixels
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def as_stored(
    box: tuple[int, int, int, int], size_HW: tuple[int, int], image: Image.Image
) -> tuple[int, int, int, int]:
    """Where a part (top, left, bottom, right) of a picture, as it is seen, lies in its file.

    Args:
        box: the part.
        size_HW: of the picture as it is seen.
        image: its file, opened.
    """
    (top, left, bottom, right), (height, width) = box, size_HW
    orientation = orientation_of(image)
    if orientation in _UPSIDE_DOWN:
        top, bottom = height - bottom, height - top
    if orientation in _MIRRORED:
        left, right = width - right, width - left
    return (top, left, bottom, right) if orientation < 5 else (left, top, right, bottom)


def to_visible(image: Image.Image) -> tuple[Pixels, list[str]]:
    """RGB uint8 [H, W, 3] of a picture as a person sees it, and notes on what was converted.

    Of several frames the first from the current one on counts that is not all of one colour.
    """
    frames, first = getattr(image, "n_frames", 1), image.tell()
    pixels_HWC, notes = _frame(image)
    if frames == 1:
        return pixels_HWC, notes
    shown = first
    if is_blank(pixels_HWC):
        for number, (later_HWC, later_notes) in _later(image, first, frames):
            if not is_blank(later_HWC):
                pixels_HWC, notes, shown = later_HWC, later_notes, number
                break
        image.seek(first)
    text = f"first of {frames} frames" if shown == 0 else f"frame {shown + 1} of {frames}"
    return pixels_HWC, [*notes, text]


def to_published(image: Image.Image) -> tuple[Pixels, list[str]]:
    """RGB uint8 [H, W, 3] of an image as the published protocol took it, and a note of that."""
    if image.mode == "F":
        raise ImageError("floating-point samples have no agreed range; convert the file first")
    if scale := _scale(image):
        grey = narrowed(np.asarray(image), scale)
        pixels_HWC = np.repeat(grey[:, :, None], 3, axis=2)
    else:
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # straight to RGB some palettes blend
        pixels_HWC = np.array(image if image.mode == "RGB" else image.convert("RGB"))
    return pixels_HWC, ["as published"]


def _later(
    image: Image.Image, first: int, frames: int
) -> Iterator[tuple[int, tuple[Pixels, list[str]]]]:
    for number in range(first + 1, min(frames, first + _MOST_FRAMES)):
        try:
            image.seek(number)
            yield number, _frame(image)
        except (*DECODER_ERRORS, ImageError):  # a damaged frame, after ones that show nothing
            return


def is_blank(pixels_HWC: Pixels) -> bool:
    """Whether a picture is all of one colour."""
    return bool((pixels_HWC == pixels_HWC[0, 0]).all())


def _frame(image: Image.Image) -> tuple[Pixels, list[str]]:
    # Pillow has no mode for wide colour samples: its decoders keep the upper 8 bits, as we want.
    is_wide = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    image.load()
    notes = ["16-bit"] if is_wide or image.mode[0] == "I" else []
    notes += _notes(image)
    colours = _colours_of(image)
    notes += [colours.note] if colours.note else []
    key = image.info.get("transparency")
    if (orientation := orientation_of(image)) != 1:  # a TIFF's is done by now
        image = image.transpose(_TURNS[orientation])
        notes.append(f"EXIF orientation {orientation} applied")
    scale = _scale(image)

    def rgb(strip: Image.Image) -> Image.Image:
        return _rgb(_narrowed(strip, scale, key) if scale else strip, colours)

    height, width = image.height, image.width
    rows = max(1, _STRIP_PIXELS // max(width, 1))
    if rows >= height:
        return np.array(rgb(image)), notes
    pixels_HWC = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels_HWC[top:bottom] = np.asarray(rgb(image.crop((0, top, width, bottom))))
    return pixels_HWC, notes


def _notes(image: Image.Image) -> list[str]:
    notes = ["floating point"] if image.mode == "F" else []
    if image.mode in ("P", "PA"):
        notes.append("palette")
    elif _family(image.mode) == "GRAY":
        notes.append("grey")
    elif not image.mode.startswith("RGB"):
        notes.append(image.mode)
    return [*notes, "alpha on white"] if image.has_transparency_data else notes


def _family(mode: str) -> str:
    """The colour space of a mode, as ICC profiles name theirs."""
    if mode in ("CMYK", "LAB"):
        return mode
    return "GRAY" if mode[0] in "1LIF" else "RGB"


def _scale(image: Image.Image) -> float:
    """What makes wide samples 8-bit; 0 for those that are.

    Raises:
        ImageError: their range is none that is agreed on.
    """
    if image.mode.startswith("I;16"):
        return 1 / 256
    if image.mode not in ("I", "F"):
        return 0.0
    return scale_of(*image.getextrema(), is_float=image.mode == "F")


def scale_of(least: float, most: float, *, is_float: bool) -> float:
    """What makes samples of that range 8-bit: floats to 1 or 255, whole numbers to 65,535.

    Raises:
        ImageError: the range is none of these.
    """
    if is_float and least >= 0 and most <= 255:
        return 255.0 if most <= 1 else 1.0
    if not is_float and least >= 0 and most <= 0xFFFF:
        return 1 / 256
    kind = "floating-point" if is_float else "32-bit"
    raise ImageError(
        f"{kind} samples from {least:g} to {most:g} have no agreed range; convert the file first"
    )


def narrowed(values: NDArray[np.generic], scale: float) -> Pixels:
    """Samples as 8-bit: of whole numbers the upper 8 bits, floats rounded.

    Raises:
        ImageError: one is no number.
    """
    if values.dtype.kind != "f":
        return (values.astype(np.int64) >> 8).astype(np.uint8)
    if not np.isfinite(values).all():
        raise ImageError("floating-point samples that are no number")
    return np.asarray(np.rint(values.astype(np.float32) * np.float32(scale)), dtype=np.uint8)


def _narrowed(strip: Image.Image, scale: float, key: object) -> Image.Image:
    """An 8-bit grey picture of one with wide samples; `key` is the sample that is transparent."""
    values = np.asarray(strip)
    grey = Image.fromarray(narrowed(values, scale))
    if isinstance(key, int):
        grey = Image.merge("LA", (grey, Image.fromarray((values != key).astype(np.uint8) * 255)))
    return grey


def _rgb(image: Image.Image, colours: "_Colours") -> Image.Image:
    """RGB of an 8-bit picture: its palette looked up, profile applied, transparency on white."""
    alpha = None
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("LA" if colours.mode == "L" else "RGBA")
        alpha = image.getchannel("A")
    if image.mode != colours.mode:
        image = image.convert(colours.mode)
    if colours.to_srgb is not None:
        image = ImageCms.applyTransform(image, colours.to_srgb) or image
    if alpha is not None:
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=alpha)
        image = white
    return image


@dataclass(frozen=True)
class _Colours:
    """How samples become sRGB: the mode in which they are taken, the transform if any, a note."""

    mode: str = "RGB"
    to_srgb: ImageCms.ImageCmsTransform | None = None
    note: str = ""


_AS_STORED = _Colours()


def _colours_of(image: Image.Image) -> _Colours:
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile or image.mode == "LAB":  # seen by any device
        return _AS_STORED
    colours = _colours(profile, _family(image.mode))
    if image.format == "JXL" and " for CMYK " in colours.note:  # its plugin calls them RGB
        raise ImageError("JPEG XL of inks (CMYK), which its decoder gives as RGB; convert it first")
    return colours


def has_srgb_colours(image: Image.Image) -> bool:
    """Whether an opened picture has no profile, or one that changes no colour."""
    return _colours_of(image).to_srgb is None


@functools.lru_cache(maxsize=64)
def _colours(profile: bytes, family: str) -> _Colours:
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = " ".join(ImageCms.getProfileDescription(opened).replace(",", " ").split())[:40]
        space = opened.profile.xcolor_space.strip()
        if space != family and (space, family) != ("RGB", "GRAY"):
            return _Colours(note=f"ICC profile for {space} colours ignored")
        mode = "L" if space == "GRAY" else space
        to_srgb = ImageCms.buildTransform(
            opened, ImageCms.createProfile("sRGB"), mode, "RGB", renderingIntent=_INTENT
        )
        if mode != "CMYK" and _moves_nothing(to_srgb, mode):
            return _AS_STORED
    except (ImageCms.PyCMSError, *DECODER_ERRORS):
        return _Colours(note="broken ICC profile ignored")
    return _Colours(mode, to_srgb, f"ICC profile {name or 'without name'} applied")


def _moves_nothing(to_srgb: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a grid of colours stays where it is: the profile is sRGB, whoever wrote it."""
    levels = np.linspace(0, 255, 18).round().astype(np.uint8)
    grid_HWC = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 18 * 18, 3)
    if mode == "L":
        grid_HWC = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    given = Image.fromarray(grid_HWC)
    moved = ImageCms.applyTransform(given if mode == "RGB" else given.convert("L"), to_srgb)
    return bool(np.abs(np.asarray(moved).astype(int) - grid_HWC).max() <= _SAME)
