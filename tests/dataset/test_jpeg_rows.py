"""A part of a JPEG, decoded without the rows below it, is to the bit that of the whole."""

import io
import random
import re
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from rayapp.dataset.images import Box, DecodedImage, ImageError, decode
from rayapp.dataset.jpeg_rows import first_rows
from rayapp.demo.photographs import shipped_photographs
from tests.pictures import photographed, saved, wide_profile

_SAMPLINGS = {
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:4:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    "4:1:1": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
}
_WAYS: dict[str, dict[int, int]] = {
    "baseline": {},
    "progressive": {cv2.IMWRITE_JPEG_PROGRESSIVE: 1},
    "restarts": {cv2.IMWRITE_JPEG_RST_INTERVAL: 7},
    "progressive restarts": {cv2.IMWRITE_JPEG_PROGRESSIVE: 1, cv2.IMWRITE_JPEG_RST_INTERVAL: 3},
}
PICTURE = photographed(301, 203)
BOXES = [(0, 0, 1, 1), (17, 33, 18, 90), (101, 3, 164, 66), (149, 0, 213, 203), (255, 7, 301, 203)]


def encoded(sampling: str, way: str) -> bytes:
    options = {cv2.IMWRITE_JPEG_QUALITY: 88, **_WAYS[way]}
    options[cv2.IMWRITE_JPEG_SAMPLING_FACTOR] = _SAMPLINGS[sampling]
    flat = [value for pair in options.items() for value in pair]
    return bytes(cv2.imencode(".jpg", PICTURE, flat)[1])


def assert_part(data: bytes, box: Box, whole: DecodedImage | None = None) -> None:
    """The part has the pixels of the whole, and tells of the file what the whole does."""
    whole = whole or decode(data)
    top, left, bottom, right = box
    found = decode(data, part=lambda _: box)
    np.testing.assert_array_equal(found.pixels_HWC, whole.pixels_HWC[top:bottom, left:right])
    for name in ("width", "height", "format", "orientation", "note"):
        assert getattr(found, name) == getattr(whole, name)


@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("sampling", _SAMPLINGS)
def test_a_part_is_that_of_the_whole_picture(sampling: str, way: str) -> None:
    data = encoded(sampling, way)
    whole = decode(data)
    for box in BOXES:
        assert_part(data, box, whole)
    assert first_rows(data, 101)
    assert first_rows(data, 300) is None  # nothing would be left out


@pytest.mark.parametrize("value", range(1, 9))
def test_a_part_of_a_turned_picture_is_where_a_person_sees_it(value: int) -> None:
    exif = Image.Exif()
    exif[274] = value
    data = saved(Image.fromarray(PICTURE), "JPEG", quality=90, exif=exif)
    whole = decode(data)
    height, width = whole.pixels_HWC.shape[:2]
    for box in ((5, 9, 36, 80), (height - 40, 0, height, width), (60, width - 31, 91, width - 2)):
        assert_part(data, box, whole)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours(mode: str) -> None:
    data = saved(Image.fromarray(PICTURE).convert(mode), "JPEG", quality=90)
    assert first_rows(data, 64)
    assert_part(data, (20, 30, 84, 94))


def test_a_profile_is_applied_to_the_part() -> None:
    data = saved(Image.fromarray(PICTURE), "JPEG", icc_profile=wide_profile())
    assert "applied" in decode(data).note
    assert_part(data, (20, 30, 84, 94))


def test_real_photographs() -> None:
    data = shipped_photographs()[0].read()
    whole = decode(data)
    for seed in range(3):
        dice = random.Random(seed)
        top, left = dice.randrange(whole.height - 64), dice.randrange(whole.width - 64)
        for options in ({}, {"subsampling": 1}, {"progressive": True, "subsampling": 2}):
            again = saved(Image.fromarray(whole.pixels_HWC), "JPEG", quality=70 + seed, **options)
            assert_part(again, (top, left, top + 64, left + 64))


def _unfinished(data: bytes) -> bytes:
    """A progressive file that ends after its third scan: decoders smooth what it lacks."""
    starts = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    tables = data.rfind(b"\xff\xc4", 0, starts[3])
    return data[: tables if tables > starts[2] else starts[3]] + b"\xff\xd9"


def test_an_unfinished_progressive_file_is_smoothed_alike() -> None:
    data = _unfinished(encoded("4:2:0", "progressive"))
    whole = decode(data)
    assert first_rows(data, 150)
    assert not np.array_equal(whole.pixels_HWC, decode(encoded("4:2:0", "progressive")).pixels_HWC)
    for box in BOXES:
        assert_part(data, box, whole)


def test_a_second_picture_after_the_first() -> None:
    sink, second = io.BytesIO(), Image.fromarray(PICTURE[:50, :40])
    Image.fromarray(PICTURE).save(sink, "MPO", save_all=True, append_images=[second])
    data = sink.getvalue()
    assert first_rows(data, 64)
    assert "first of 2 frames" in decode(data).note
    assert_part(data, (20, 30, 84, 94))


def test_a_blank_part_of_a_first_picture_is_not_taken_for_a_blank_picture() -> None:
    first, sink = PICTURE.copy(), io.BytesIO()
    first[:96] = 255
    picture = Image.fromarray(first)
    picture.save(sink, "MPO", save_all=True, append_images=[Image.fromarray(PICTURE)])
    assert_part(sink.getvalue(), (0, 0, 32, 32))


@pytest.mark.parametrize("way", _WAYS)
def test_what_fails_as_a_whole_fails_in_part(way: str) -> None:
    data = encoded("4:2:0", way)
    for share in (0.5, 0.9, 0.99):
        cut = data[: int(share * len(data))]
        with pytest.raises(ImageError, match="truncated"):
            decode(cut)
        with pytest.raises(ImageError, match="truncated"):
            decode(cut, part=lambda _: (0, 0, 32, 32))


def test_damaged_files_give_the_same_or_the_same_error() -> None:
    files = [encoded(sampling, way) for sampling in ("4:2:0", "4:4:4") for way in _WAYS]
    taken = 0
    for seed in range(240):
        dice = random.Random(seed)
        data = bytearray(files[seed % len(files)])
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(2, len(data))] = dice.randrange(256)
        try:
            whole = decode(bytes(data))
        except ImageError as error:
            with pytest.raises(ImageError, match=re.escape(str(error)[:30])):
                decode(bytes(data), part=lambda _: (0, 0, 1, 1))
            continue
        taken += first_rows(bytes(data), 60) is not None
        if whole.width >= 60 and whole.height >= 60:
            assert_part(bytes(data), (0, 0, 60, 60), whole)
    assert taken > 50  # else it says nothing


def test_a_height_that_follows_the_scan_is_left_alone() -> None:
    data = encoded("4:2:0", "baseline")
    at = data.find(b"\xff\xc0") + 5
    unsaid = data[:at] + bytes(2) + data[at + 2 : -2] + b"\xff\xdc\0\4" + struct.pack(">H", 301)
    assert first_rows(unsaid + b"\xff\xd9", 64) is None


def test_other_formats_give_parts_too() -> None:
    data = saved(Image.fromarray(PICTURE), "PNG")
    assert_part(data, (20, 30, 84, 94))
