import numpy as np

from rayapp.transforms.sheet import contact_sheet
from tests.transforms.conftest import picture


def flat(colour, height=64, width=64):
    return np.full((height, width, 3), colour, np.uint8)


def test_every_image_lies_in_its_cell_unscaled():
    red, green = (200, 10, 20), (10, 180, 30)
    sheet = contact_sheet(
        [("first", [("a", flat(red)), ("b", flat(green))]), ("second", [("a", flat(green))])],
        cell=64,
    )
    pixels = np.asarray(sheet)
    assert pixels.shape == (2 * 104 + 8, 2 * 72 + 8, 3)
    np.testing.assert_array_equal(pixels[40:104, 8:72], flat(red))
    np.testing.assert_array_equal(pixels[40:104, 80:144], flat(green))
    np.testing.assert_array_equal(pixels[144:208, 8:72], flat(green))
    assert (pixels[144:208, 80:144] == 255).all()
    assert (pixels[8:20, 8:40] < 128).any()  # the title


def test_large_images_are_fitted_and_small_ones_kept():
    sheet = np.asarray(contact_sheet([("t", [("x", flat((0, 0, 0), 500, 1000))])], cell=100))
    dark = (sheet[40:] == 0).all(axis=2)
    assert dark.any(axis=1).sum() == 50
    assert dark.any(axis=0).sum() == 100
    small = picture(7, 9)
    sheet = np.asarray(contact_sheet([("t", [("x", small)])], cell=100))
    np.testing.assert_array_equal(sheet[40:47, 8:17], small)


def test_long_titles_keep_their_end_and_no_rows_make_an_empty_sheet():
    long = contact_sheet([("a/very/long/path/" * 20 + "end.png", [("x", flat(0))])], cell=64)
    assert long.width == 80
    assert contact_sheet([]).height == 8
    assert contact_sheet([("nothing", [])]).height > 8
