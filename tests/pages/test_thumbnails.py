import base64
import io

import numpy as np
import pytest
from PIL import Image

from rayapp.pages.thumbnails import thumbnail, thumbnail_of


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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_file_stands_upright(kind: str, orientation: int) -> None:
    upright = Image.new("RGB", (400, 300), (0, 0, 255))
    upright.paste((255, 0, 0), (0, 0, 200, 150))  # red at the top left
    turn = Image.Transpose
    undo = [
        turn.FLIP_LEFT_RIGHT,
        turn.ROTATE_180,
        turn.FLIP_TOP_BOTTOM,
        turn.TRANSPOSE,
        turn.ROTATE_90,
        turn.TRANSVERSE,
        turn.ROTATE_270,
    ]
    stored = upright.transpose(undo[orientation - 2]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[274] = orientation
    sink = io.BytesIO()
    stored.save(sink, kind, exif=exif)
    uri, size_HW = thumbnail_of(sink.getvalue(), 100)
    assert size_HW == (300, 400)
    picture = opened(uri)
    assert picture.size == (100, 75)
    corners = [picture.getpixel(at) for at in ((9, 9), (90, 9), (9, 66), (90, 66))]
    assert [pixel[0] > 200 for pixel in corners] == [True, False, False, False]


def test_damaged_metadata_leaves_the_picture_as_it_is() -> None:
    sink = io.BytesIO()
    Image.new("RGB", (40, 30), (9, 9, 9)).save(sink, "JPEG", exif=b"Exif\0\0broken")
    assert thumbnail_of(sink.getvalue())[1] == (30, 40)
