"""What decoding gives for every format and odd kind of file, and for damaged ones."""

import contextlib
import io
import itertools
import random
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from rayapp.dataset.formats import READ
from rayapp.dataset.images import (
    DecodedImage,
    ImageError,
    decode,
    perceptual_hash,
    pixel_sha256,
    sha256,
)
from rayapp.dataset.near_duplicates import NEAR_BITS
from rayapp.demo.photographs import shipped_photographs

# pytest resets the filters that the module sets.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore:Image size")

HEIGHT, WIDTH = 20, 28
DICE = np.random.default_rng(0)
RGB = DICE.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(HEIGHT) * 5, np.arange(WIDTH) * 4)[:, :, None] + np.array(
    [0, 9, 18]
)
PHOTO = Image.fromarray(SMOOTH.astype(np.uint8))
PALETTE = PHOTO.quantize(16)
WIDE = DICE.integers(0, 65536, (HEIGHT, WIDTH, 4)).astype(np.uint16)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def oriented(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = value
    return exif


def animated(kind: str) -> bytes:
    more = [PHOTO.rotate(180), PHOTO.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    return saved(PHOTO, kind, save_all=True, append_images=more)


def wide_png(channels: int) -> bytes:
    return bytes(cv2.imencode(".png", WIDE[:, :, :channels])[1])


def refused(data: bytes, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
    ],
)
def test_lossless_formats_give_every_pixel(kind: str, options: dict[str, object]) -> None:
    decoded = decode(saved(Image.fromarray(RGB), kind, **options))
    assert np.array_equal(decoded.pixels_HWC, RGB)
    assert decoded == DecodedImage(decoded.pixels_HWC, kind, WIDTH, HEIGHT, 1, "")


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_are_decoded_at_full_size(kind: str) -> None:
    decoded = decode(saved(PHOTO, kind, quality=95))
    assert (decoded.format, decoded.width, decoded.height) == (kind, WIDTH, HEIGHT)
    assert decoded.pixels_HWC.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(decoded.pixels_HWC.astype(int) - np.array(PHOTO)).mean() < 4


ODD: dict[str, tuple[Callable[[], bytes], str]] = {
    "CMYK JPEG": (lambda: saved(PHOTO.convert("CMYK"), "JPEG"), "CMYK"),
    "CMYK TIFF": (lambda: saved(PHOTO.convert("CMYK"), "TIFF"), "CMYK"),
    "LAB TIFF": (lambda: saved(PHOTO.convert("LAB"), "TIFF"), "LAB"),
    "grey JPEG": (lambda: saved(PHOTO.convert("L"), "JPEG"), "grey"),
    "1-bit PNG": (lambda: saved(PHOTO.convert("1"), "PNG"), "grey"),
    "fax TIFF": (lambda: saved(PHOTO.convert("1"), "TIFF", compression="group4"), "grey"),
    "grey PNG with alpha": (lambda: saved(PHOTO.convert("LA"), "PNG"), "grey, alpha on white"),
    "RGBA PNG": (lambda: saved(PHOTO.convert("RGBA"), "PNG"), "alpha on white"),
    "RGB PNG, one colour transparent": (
        lambda: saved(PHOTO, "PNG", transparency=(1, 2, 3)),
        "alpha on white",
    ),
    "palette PNG": (lambda: saved(PALETTE, "PNG"), "palette"),
    "palette PNG, one entry transparent": (
        lambda: saved(PALETTE, "PNG", transparency=3),
        "palette, alpha on white",
    ),
    "palette PNG, entries half transparent": (
        lambda: saved(PALETTE, "PNG", transparency=bytes(range(16))),
        "palette, alpha on white",
    ),
    "palette GIF": (lambda: saved(PALETTE, "GIF"), "palette"),
    "palette GIF, one entry transparent": (
        lambda: saved(PALETTE, "GIF", transparency=3),
        "palette, alpha on white",
    ),
    "16-bit grey PNG": (lambda: wide_png(1), "16-bit, grey"),
    "16-bit RGB PNG": (lambda: wide_png(3), "16-bit"),
    "16-bit RGBA PNG": (lambda: wide_png(4), "16-bit, alpha on white"),
    "16-bit RGB TIFF": (lambda: bytes(cv2.imencode(".tiff", WIDE[:, :, :3])[1]), "16-bit"),
    "animated GIF": (lambda: animated("GIF"), "palette, first of 3 frames"),
    "animated WebP": (lambda: animated("WEBP"), "first of 3 frames"),
    "animated PNG": (lambda: animated("PNG"), "first of 3 frames"),
    "TIFF of pages": (lambda: animated("TIFF"), "first of 3 frames"),
    "JPEG with a second picture": (lambda: animated("MPO"), "first of 3 frames"),
    "turned JPEG": (lambda: saved(PHOTO, "JPEG", exif=oriented(6)), "EXIF orientation 6 applied"),
    "turned WebP": (lambda: saved(PHOTO, "WEBP", exif=oriented(3)), "EXIF orientation 3 applied"),
    "turned PNG": (lambda: saved(PHOTO, "PNG", exif=oriented(8)), "EXIF orientation 8 applied"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_kinds_become_rgb_and_say_so(kind: str) -> None:
    make, note = ODD[kind]
    decoded = decode(make())
    assert decoded.note == note
    assert decoded.pixels_HWC.dtype == np.uint8
    lies = decoded.orientation > 4
    assert decoded.pixels_HWC.shape == ((WIDTH, HEIGHT, 3) if lies else (HEIGHT, WIDTH, 3))
    assert decoded.pixels_HWC.flags.c_contiguous
    assert decoded.pixels_HWC.flags.writeable


def test_jpeg_with_a_second_picture_is_a_jpeg() -> None:
    assert decode(animated("MPO")).format == "JPEG"


@pytest.mark.parametrize("kind", ["animated PNG", "animated WebP", "TIFF of pages"])
def test_the_first_frame_counts(kind: str) -> None:
    pixels = decode(ODD[kind][0]()).pixels_HWC.astype(int)
    assert np.abs(pixels - np.array(PHOTO)).mean() < np.abs(pixels[::-1] - np.array(PHOTO)).mean()


def test_published_alpha_is_dropped_not_blended() -> None:
    rgba = np.dstack([RGB, np.zeros((HEIGHT, WIDTH), np.uint8)])
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        data = saved(Image.fromarray(rgba), kind, **options)
        assert np.array_equal(decode(data, published=True).pixels_HWC, RGB)
        assert (decode(data).pixels_HWC == 255).all()  # and so it is not what anybody sees


def test_published_transparent_palette_entries_keep_their_colour() -> None:
    plain = decode(saved(PALETTE, "PNG")).pixels_HWC
    for transparency in (0, bytes(16)):
        data = saved(PALETTE, "PNG", transparency=transparency)
        assert np.array_equal(decode(data, published=True).pixels_HWC, plain)
        assert not np.array_equal(decode(data).pixels_HWC, plain)


@pytest.mark.parametrize("ext", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_samples_keep_their_upper_8_bits(ext: str, channels: int) -> None:
    wide = WIDE[:, :, :channels]
    upper: NDArray[np.int64] = (wide >> 8).astype(np.int64)
    wanted = np.repeat(upper, 3, 2) if channels == 1 else upper[:, :, 2::-1]  # OpenCV: BGR(A)
    data = bytes(cv2.imencode(ext, wide)[1])
    assert np.array_equal(decode(data, published=True).pixels_HWC, wanted)
    if channels != 4:
        assert np.array_equal(decode(data).pixels_HWC, wanted)


def test_samples_without_agreed_range_are_refused() -> None:
    values = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    assert "floating-point" in refused(saved(Image.fromarray(values.astype(np.float32)), "TIFF"))
    far = Image.fromarray((values + 70_000).astype(np.int32))
    assert "32-bit" in refused(saved(far, "TIFF"))


@pytest.mark.parametrize("value", range(1, 9))
def test_published_orientation_is_not_applied(value: int) -> None:
    data = saved(Image.fromarray(RGB), "PNG", exif=oriented(value))
    turned = decode(data, published=True)
    assert turned.orientation == value
    assert np.array_equal(turned.pixels_HWC, RGB)
    assert np.array_equal(decode(data).pixels_HWC, RGB) == (value == 1)


def test_orientation_of_a_tiff_is_applied_by_its_decoder() -> None:
    turned = decode(saved(Image.fromarray(RGB), "TIFF", exif=oriented(6)))
    assert (turned.orientation, turned.width, turned.height) == (1, HEIGHT, WIDTH)
    assert np.array_equal(turned.pixels_HWC, np.rot90(RGB, -1))


def _exif_of(kind: int, count: int, value: bytes) -> bytes:
    return (
        b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI4s", 274, kind, count, value) + bytes(4)
    )


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage" * 9,
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0",
        _exif_of(2, 4, b"abc\0"),
        _exif_of(3, 1, b"\x09\0\0\0"),
        _exif_of(3, 1, bytes(4)),
        _exif_of(5, 1, b"\xff" * 4),
        _exif_of(3, 2, b"\x03\0\x63\0")[:-9],
    ],
)
def test_damaged_metadata_spoils_no_sound_picture(exif: bytes) -> None:
    for kind in ("JPEG", "WEBP"):
        decoded = decode(saved(PHOTO, kind, exif=exif))
        assert decoded.orientation == 1
        assert decoded.pixels_HWC.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file (0 bytes)"),
        (b"<!DOCTYPE html><html>sign in</html>", "a web page, not an image"),
        (b"\xef\xbb\xbf\n <HTML>", "a web page, not an image"),
        ("a café, a plan".encode(), "text, not an image"),
        (("é" * 3000).encode(), "text, not an image"),
        (b'{"error": 404}', "text, not an image"),
        (b"BMW, a car", "text, not an image"),
        (bytes(100), f"not a {READ} image"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not a JPEG, PNG"),
        (b"\xff\xd8\xff", "starts as a JPEG, goes on as none"),
        (b"GIF89a", "starts as a GIF, goes on as none"),
        (b"PK\x03\x04" + bytes(50), "not a JPEG, PNG"),
        (saved(PHOTO, "PPM"), "not a JPEG, PNG"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, reason: str) -> None:
    assert reason in refused(data)


def bare_png(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_bombs_are_refused_before_they_are_unpacked() -> None:
    start = time.thread_time()  # what is computed, however loaded the machine is
    assert "too large" in refused(bare_png(65000, 65000))
    assert "too large" in refused(
        b"GIF89a\xff\xff\xff\xff\0\0\0\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0\x3b"
    )
    assert time.thread_time() - start < 2


def test_the_bound_is_exact_and_a_loosened_pillow_does_not_move_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = saved(PHOTO, "PNG")
    assert decode(data, max_pixels=HEIGHT * WIDTH).width == WIDTH
    assert "28×20 pixels, more than 559 are refused" in refused(data, max_pixels=559)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert "more than 134,217,728 are refused" in refused(bare_png(65000, 65000))


def test_a_loosened_pillow_does_not_fill_with_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = saved(PHOTO, "PNG")
    assert "truncated" in refused(data[: len(data) // 2])


WHOLE = {
    "JPEG": saved(PHOTO, "JPEG"),
    "progressive JPEG": saved(PHOTO, "JPEG", progressive=True, exif=oriented(6)),
    "PNG": saved(PHOTO, "PNG"),
    "palette PNG": saved(PALETTE, "PNG", transparency=3),
    "WebP": saved(PHOTO, "WEBP"),
    "lossless WebP": saved(PHOTO, "WEBP", lossless=True, exif=oriented(6)),
    "BMP": saved(PHOTO, "BMP"),
    "GIF": saved(PALETTE, "GIF"),
    "TIFF": saved(PHOTO, "TIFF"),
    "LZW TIFF": saved(PHOTO, "TIFF", compression="tiff_lzw"),
    "deflate TIFF": saved(PHOTO, "TIFF", compression="tiff_deflate"),
    **{kind: make() for kind, (make, _) in ODD.items()},
}


@pytest.mark.parametrize("kind", WHOLE)
def test_truncated_anywhere_it_is_an_error_or_the_whole_picture(kind: str) -> None:
    data = WHOLE[kind]
    wanted = decode(data).pixels_HWC
    cuts = sorted({*range(0, len(data), max(1, len(data) // 12)), *range(len(data) - 6, len(data))})
    outcomes = [_decoded_or_none(data[:cut]) for cut in cuts]
    assert outcomes[0] is None
    assert all(found is None or np.array_equal(found, wanted) for found in outcomes)
    assert sum(found is None for found in outcomes) >= len(cuts) // 5  # of three frames one counts


def _decoded_or_none(data: bytes) -> NDArray[np.uint8] | None:
    try:
        return decode(data).pixels_HWC
    except ImageError:
        return None


def _damaged(data: bytes, dice: random.Random) -> bytes:
    """Cut off, overwritten here and there, with a piece missing, or with one too many."""
    changed = bytearray(data)
    way, at, length = dice.randrange(5), dice.randrange(len(data)), dice.randrange(1, 40)
    if way == 0:
        return data[:at]
    if way == 1:
        for _ in range(dice.randrange(1, 8)):
            changed[dice.randrange(len(data))] = dice.randrange(256)
    elif way == 2:  # the headers' sizes and offsets
        for _ in range(dice.randrange(1, 5)):
            changed[dice.randrange(min(200, len(data)))] = dice.choice([0, 1, 127, 128, 255])
    elif way == 3:
        del changed[at : at + length]
    else:
        changed[at:at] = dice.randbytes(length)
    return bytes(changed)


def test_damaged_files_give_an_image_or_an_image_error(capfd: pytest.CaptureFixture[str]) -> None:
    dice = random.Random(20)
    kinds = list(WHOLE)
    outcomes = {True: 0, False: 0}
    slowest = 0.0
    for number in range(800):
        data = _damaged(WHOLE[kinds[number % len(kinds)]], dice)
        start = time.thread_time()
        found = _decoded_or_none(data)  # any other exception fails the test
        slowest = max(slowest, time.thread_time() - start)
        outcomes[found is None] += 1
        if found is not None:
            assert found.ndim == 3
            assert found.dtype == np.uint8
    capfd.readouterr()  # libtiff writes to the file descriptor
    assert min(outcomes.values()) > 100
    assert slowest < 3


def test_threads_decode_side_by_side_and_leave_the_warnings_alone() -> None:
    before = list(warnings.filters)
    barrier = threading.Barrier(8)

    def work(_: int) -> set[str]:
        barrier.wait()
        return {pixel_sha256(decode(WHOLE["palette PNG"]).pixels_HWC) for _ in range(40)}

    with ThreadPoolExecutor(8) as pool:
        seen = set().union(*pool.map(work, range(8)))
    assert len(seen) == 1
    assert list(warnings.filters) == before


def test_hashes() -> None:
    assert sha256(b"abc").startswith("ba7816bf")
    same = decode(saved(Image.fromarray(RGB), "PNG")).pixels_HWC
    assert pixel_sha256(RGB) == pixel_sha256(same)
    assert pixel_sha256(RGB) == pixel_sha256(RGB[::-1].copy()[::-1])  # strides do not matter
    other = RGB.copy()
    other[0, 0, 0] ^= 1
    assert len({pixel_sha256(p) for p in (RGB, other, RGB.reshape(WIDTH, HEIGHT, 3))}) == 3


def test_the_perceptual_hash_is_that_of_the_library_and_outlives_encoding():
    import imagehash

    bits, photographs = {}, [decode(p.read()).pixels_HWC for p in shipped_photographs()[:6]]
    for number, pixels in enumerate(photographs):
        image = Image.fromarray(pixels)
        bits[number] = int(perceptual_hash(pixels), 16)
        assert perceptual_hash(pixels) == str(imagehash.phash(image, hash_size=16))
        sink = io.BytesIO()
        image.resize((image.width // 2, image.height // 2)).save(sink, "JPEG", quality=50)
        copy = int(perceptual_hash(decode(sink.getvalue()).pixels_HWC), 16)
        assert (bits[number] ^ copy).bit_count() <= 12 < NEAR_BITS
    apart = [(a ^ b).bit_count() for a, b in itertools.combinations(bits.values(), 2)]
    assert min(apart) > 3 * NEAR_BITS


def test_a_flat_picture_has_no_perceptual_hash():
    assert perceptual_hash(np.full((50, 70, 3), 128, np.uint8)) is None
    noise = np.random.default_rng(0).integers(126, 130, (64, 64, 3), dtype=np.uint8)
    assert perceptual_hash(noise) is None


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "group4"])
def test_no_decoder_writes_into_the_progress_line(
    compression: str, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image, file = Image.fromarray(noise), io.BytesIO()
    if compression == "group4":
        image = image.convert("1")
    image.save(file, "TIFF", compression=compression)
    damaged = bytearray(file.getvalue())
    for at in (200, 500):
        damaged[at] ^= 0xFF
    with contextlib.suppress(ImageError):
        decode(bytes(damaged))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_plain_file_is_the_same_by_either_decoder(kind: str):
    picture = PHOTO.resize((90, 120))
    exif = Image.Exif()
    exif[0x010E] = "a file with metadata is Pillow's"
    plain, careful = saved(picture, kind), saved(picture, kind, exif=exif.tobytes())
    one, other = decode(plain), decode(careful)
    np.testing.assert_array_equal(one.pixels_HWC, other.pixels_HWC)
    assert replace(one, pixels_HWC=None) == replace(other, pixels_HWC=None)
    cut = decode(plain, part=lambda size_HW: (10, 20, size_HW[0] - 5, 60))
    np.testing.assert_array_equal(cut.pixels_HWC, one.pixels_HWC[10:115, 20:60])
    assert (cut.height, cut.width) == (120, 90)
    with pytest.raises(ImageError, match="90×120 pixels, more than 100 are refused"):
        decode(plain, max_pixels=100)
    with pytest.raises(ImageError, match="corrupt or truncated"):
        decode(plain[: len(plain) // 2])
