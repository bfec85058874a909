"""Small pictures of images, carried inside the page."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rayapp.dataset.images import decode_opened, open_image


def thumbnail(image_HWC: NDArray[np.uint8], max_side: int = 192) -> str:
    """JPEG data URI of an RGB uint8 image, shrunk to `max_side` pixels; never enlarged.

    For looking at only: it is resampled and compressed, so the evidence is gone.
    """
    return _small(Image.fromarray(image_HWC), max_side)


def thumbnail_of(data: bytes, max_side: int = 192) -> tuple[str, tuple[int, int]]:
    """The same of an image file, as a person sees it, with its full height and width, upright.

    A JPEG is not decoded at its full size.

    Raises:
        ImageError: it cannot be decoded.
    """
    picture = open_image(data)
    width, height = picture.size
    if picture.mode in ("L", "RGB"):  # of a CMYK file the draft would be what its profile is not of
        picture.draft(picture.mode, (2 * max_side, 2 * max_side))
    decoded = decode_opened(picture)
    if decoded.orientation >= 5:  # it lies on its side
        width, height = height, width
    return thumbnail(decoded.pixels_HWC, max_side), (height, width)


def _small(picture: Image.Image, max_side: int) -> str:
    picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
