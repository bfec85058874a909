"""Small pictures of images, carried inside the page."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def thumbnail(image_HWC: NDArray[np.uint8], max_side: int = 192) -> str:
    """JPEG data URI of an RGB uint8 image, shrunk to `max_side` pixels; never enlarged.

    For looking at only: it is resampled and compressed, so the evidence is gone.
    """
    return _small(Image.fromarray(image_HWC), max_side)


def thumbnail_of(data: bytes, max_side: int = 192) -> str:
    """The same of an image file that is known to decode; a JPEG is not decoded at its full size."""
    picture = Image.open(io.BytesIO(data))
    picture.draft("RGB", (2 * max_side, 2 * max_side))
    return _small(picture.convert("RGB"), max_side)


def _small(picture: Image.Image, max_side: int) -> str:
    picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
