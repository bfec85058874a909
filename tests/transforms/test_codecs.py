import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from rayapp.dataset import images
from rayapp.dataset.images import ImageError, decode, pixels_of
from rayapp.transforms import codecs
from rayapp.transforms.codecs import decode_fast, encode_lossless
from tests.pictures import wide_profile
from tests.transforms.conftest import picture

RGB = picture(150, 201)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def saved(image, fmt, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        buffer, fmt, **options
    )
    return buffer.getvalue()


def turned():
    exif = Image.Exif()
    exif[274] = 6
    return exif


def with_chunk(png, kind, body):
    chunk = struct.pack(">I", len(body)) + kind + body
    return png[:33] + chunk + struct.pack(">I", zlib.crc32(kind + body)) + png[33:]


PLAIN = {
    "jpeg": saved(RGB, "JPEG", quality=90),
    "jpeg 4:4:4": saved(RGB, "JPEG", quality=95, subsampling=0),
    "jpeg 4:2:2": saved(RGB, "JPEG", quality=60, subsampling=1),
    "jpeg progressive": saved(RGB, "JPEG", quality=80, progressive=True),
    "jpeg restarts": saved(RGB, "JPEG", quality=80, restart_marker_blocks=3),
    "jpeg turned by EXIF": saved(RGB, "JPEG", exif=turned()),
    "jpeg with profile": saved(RGB, "JPEG", icc_profile=PROFILE),
    "png": saved(RGB, "PNG"),
    "jpeg with wide profile": saved(RGB, "JPEG", icc_profile=wide_profile()),
    "png with profile": saved(RGB, "PNG", icc_profile=PROFILE),
    "png with wide profile": saved(RGB, "PNG", icc_profile=wide_profile()),
    "png turned by EXIF": saved(RGB, "PNG", exif=turned()),
    "png with gamma": with_chunk(saved(RGB, "PNG"), b"gAMA", struct.pack(">I", 100_000)),
    "webp": saved(RGB, "WEBP", quality=80),
    "webp lossless": saved(RGB, "WEBP", lossless=True),
}
OTHER = {
    "jpeg grey": saved(RGB[..., 0], "JPEG"),
    "jpeg CMYK": saved(Image.fromarray(RGB).convert("CMYK"), "JPEG"),
    "jpeg with tail": saved(RGB, "JPEG") + b"tail",
    "png alpha": saved(np.dstack([RGB, RGB[..., :1]]), "PNG"),
    "png colour key": saved(RGB, "PNG", transparency=(1, 2, 3)),
    "png 16 bit": saved(RGB[..., 0].astype(np.uint16) * 257, "PNG"),
    "png palette": saved(Image.fromarray(RGB).quantize(16), "PNG"),
    "png animated": saved(RGB, "PNG", save_all=True, append_images=[Image.fromarray(RGB[::-1])]),
    "webp alpha": saved(np.dstack([RGB, RGB[..., :1]]), "WEBP", lossless=True),
    "webp alpha lossy": saved(np.dstack([RGB, RGB[..., :1]]), "WEBP"),
    "webp animated": saved(RGB, "WEBP", save_all=True, append_images=[Image.fromarray(RGB[::-1])]),
    "gif": saved(RGB, "GIF"),
    "bmp": saved(RGB, "BMP"),
    "text": b"not an image at all, but more than thirty bytes long",
    "empty": b"",
}


@pytest.mark.parametrize("name", PLAIN)
def test_fast_decoding_equals_pillow(name):
    pixels = decode_fast(PLAIN[name])
    assert pixels is not None
    np.testing.assert_array_equal(pixels, decode(PLAIN[name], published=True).pixels_HWC)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


READABLE = [name for name in (*PLAIN, *OTHER) if name not in ("text", "empty")]


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("published", [False, True])
def test_the_fastest_way_gives_what_the_careful_decoder_gives(name, published):
    data = (PLAIN | OTHER)[name]
    wanted = decode(data, published=published).pixels_HWC
    np.testing.assert_array_equal(pixels_of(data, published=published), wanted)


def test_orientation_and_profile_are_left_to_the_careful_decoder_unless_they_change_nothing():
    for name, data in PLAIN.items():
        may = name.startswith("png") or name.endswith(("EXIF", "profile"))
        assert (decode_fast(data, bare=True) is None) == may, name
    seen = {name: images._seen_as_stored(data) for name, data in PLAIN.items()}
    assert [name for name, stored in seen.items() if not stored] == [
        "jpeg turned by EXIF",
        "jpeg with wide profile",
        "png with wide profile",
        "png turned by EXIF",
    ]


def test_a_png_may_say_behind_its_pixels_how_it_is_turned():
    turned_png = PLAIN["png turned by EXIF"]
    at = turned_png.find(b"eXIf") - 4
    chunk = turned_png[at : at + 12 + int.from_bytes(turned_png[at : at + 4], "big")]
    behind = PLAIN["png"][:-12] + chunk + PLAIN["png"][-12:]
    assert decode(behind).orientation == 6
    np.testing.assert_array_equal(pixels_of(behind), np.rot90(RGB, -1))


@pytest.mark.parametrize("name", OTHER)
def test_anything_else_is_left_to_the_careful_decoder(name):
    assert decode_fast(OTHER[name]) is None


def test_size_is_bounded_before_decoding(monkeypatch):
    monkeypatch.setattr(codecs, "_MAX_PIXELS", 150 * 201 - 1)
    assert not any(decode_fast(data) is not None for data in PLAIN.values())


@pytest.mark.parametrize(
    "name", ["jpeg", "jpeg progressive", "jpeg restarts", "png", "webp", "webp lossless"]
)
def test_a_damaged_file_never_gives_other_pixels_than_pillow(name, capfd):
    rng = np.random.default_rng(0)
    whole, fast = PLAIN[name], 0
    for _ in range(60):
        data = bytearray(whole)
        at = int(rng.integers(0, len(data) - 30))
        kind = rng.integers(0, 4)
        if kind == 0:
            data[at] = int(rng.integers(0, 256))
        elif kind == 1:
            del data[at : at + int(rng.integers(1, 30))]
        elif kind == 2:
            data[at:at] = rng.bytes(5)
        else:
            del data[at:]
        pixels = decode_fast(bytes(data))
        if pixels is None:
            continue
        fast += 1
        try:
            expected = decode(bytes(data)).pixels_HWC
        except ImageError as error:
            pytest.fail(f"decoded what Pillow refuses: {error}")
        np.testing.assert_array_equal(pixels, expected)
    assert fast > 0 or name == "png"  # a PNG's checksums tell every damage
    capfd.readouterr()  # the C libraries' own remarks


@pytest.mark.parametrize("effort", [0, 1, 2])
def test_encoding_is_lossless(effort):
    for image in (RGB, picture(1, 1), picture(3, 700), RGB[:, ::-1]):
        data = encode_lossless(np.ascontiguousarray(image), effort)
        assert (data[:4], data[8:12]) == (b"RIFF", b"WEBP")
        np.testing.assert_array_equal(decode(data).pixels_HWC, image)


def test_fast_effort_stays_small():
    astronaut = pytest.importorskip("skimage.data").astronaut()
    sizes = []
    for effort in (0, 1, 2):
        crops = [astronaut[y : y + 128, x : x + 128] for y in (0, 200, 384) for x in (0, 200, 384)]
        sizes.append(sum(len(encode_lossless(np.ascontiguousarray(c), effort)) for c in crops))
    assert sizes[0] <= 1.15 * sizes[2]
    assert sizes[2] < sizes[1] < sizes[0]


def test_too_large_for_the_format_is_named():
    with pytest.raises(ValueError, match="at most 16383 px"):
        encode_lossless(np.zeros((1, 16_384, 3), np.uint8))
