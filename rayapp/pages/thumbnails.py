"""Small pictures of images, carried inside the page."""

import base64
import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


def thumbnail(image_HWC: NDArray[np.uint8], max_side: int = 192) -> str:
    """JPEG data URI of an RGB uint8 image, shrunk to `max_side` pixels; never enlarged.

    For looking at only: it is resampled and compressed, so the evidence is gone.
    """
    return _small(Image.fromarray(image_HWC), max_side)


def thumbnail_of(data: bytes, max_side: int = 192) -> tuple[str, tuple[int, int]]:
    """The same of an image file that is known to decode, upright, with its full height and width.

    A JPEG is not decoded at its full size.
    """
    picture = Image.open(io.BytesIO(data))
    width, height = picture.size
    picture.draft("RGB", (2 * max_side, 2 * max_side))
    upright = _upright(picture)
    if (upright.width > upright.height) != (picture.width > picture.height):
        width, height = height, width
    return _small(upright.convert("RGB"), max_side), (height, width)


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except (SyntaxError, TypeError, LookupError, struct.error):  # damaged metadata, sound pixels
        return picture


def _small(picture: Image.Image, max_side: int) -> str:
    picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
