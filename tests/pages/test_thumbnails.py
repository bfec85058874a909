import base64
import io

import numpy as np
from PIL import Image

from rayapp.pages.thumbnails import thumbnail


def opened(uri: str) -> Image.Image:
    head, data = uri.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_shrinks_and_keeps_shape_and_colour() -> None:
    image = np.full((300, 600, 3), (200, 30, 30), dtype=np.uint8)
    picture = opened(thumbnail(image, 192))
    assert picture.size == (192, 96)
    assert abs(np.asarray(picture).astype(int) - (200, 30, 30)).max() < 6


def test_never_enlarges() -> None:
    assert opened(thumbnail(np.zeros((32, 20, 3), dtype=np.uint8))).size == (20, 32)
