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
    picture = Image.fromarray(image_HWC)
    picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
