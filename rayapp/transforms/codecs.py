"""Image files at speed: lossless WebP out, and exact decoding of the common kinds in."""

import io
import struct

import cv2
import numpy as np
from PIL import Image

from rayapp.transforms.operations import ImageHWC

# libwebp (method, quality) by effort; what each costs is measured in tests/transforms.
_EFFORTS = ((0, 0), (1, 20), (4, 80))
_MAX_PIXELS = 8192 * 8192  # beyond it the careful decoder decides
_METADATA = {0xE1, 0xE2}  # EXIF and XMP, and profiles
_SOF = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, Huffman-coded
_RESTARTS = 0xD0, 0xD7


def encode_lossless(image_HWC: ImageHWC, effort: int = 0) -> bytes:
    """The image as lossless WebP.

    Args:
        image_HWC: uint8 RGB, at most 16,383 px a side.
        effort: 0 fast, 1 about 4 % smaller at 4 times the time, 2 libwebp's default: 11 % smaller
            at 25 times the time (256-px photograph).

    Raises:
        ValueError: larger than the format can hold.
    """
    if max(image_HWC.shape) > 16_383:
        raise ValueError("WebP holds at most 16383 px a side")
    method, quality = _EFFORTS[effort]
    buffer = io.BytesIO()
    Image.fromarray(image_HWC).save(buffer, "WEBP", lossless=True, method=method, quality=quality)
    return buffer.getvalue()


def decode_fast(data: bytes, *, bare: bool = False) -> ImageHWC | None:
    """The pixels of a plain RGB JPEG, PNG or WebP file as stored, equal to Pillow's; None for else.

    OpenCV decodes them with fewer copies. None (alpha, 16 bits, palette, grey, CMYK, animation,
    damage, or more than 8192² px) says that `rayapp.dataset.images.decode` must look at it. An EXIF
    orientation and a colour profile are ignored; where `bare`, a file that may hold one gives None.
    """
    if not (_plain_jpeg(data, bare) or (_plain_png(data) and not bare) or _plain_webp(data)):
        return None
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels_HWC: ImageHWC | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return pixels_HWC


def _plain_jpeg(data: bytes, bare: bool) -> bool:
    """Whether it is a whole JPEG of three 8-bit components without an Adobe colour mark.

    Where `bare`, without EXIF, XMP and colour profile too.
    """
    if data[:3] != b"\xff\xd8\xff" or data[-2:] != b"\xff\xd9":
        return False
    at, progressive = 2, False
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _SOF:
            bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            if bits != 8 or components != 3 or not 0 < height * width <= _MAX_PIXELS:
                return False
            progressive = marker == 0xC2
        elif marker == 0xDA:
            return progressive or _is_whole_scan(data, at + 2 + length)
        elif marker == 0xEE or (bare and marker in _METADATA) or not 0xC4 <= marker <= 0xFE:
            return False
        at += 2 + length
    return False


def _is_whole_scan(data: bytes, start: int) -> bool:
    """Whether a JPEG's scan goes on from there to the end mark, the file's last two bytes.

    In a scan 0xFF is followed by 0 or a restart mark; anything else ends it.
    """
    scan = np.frombuffer(data, np.uint8)[start:-1]
    after = scan[np.flatnonzero(scan[:-1] == 0xFF) + 1]
    marks = after[after != 0]
    is_scan = not marks.size or (marks.min() >= _RESTARTS[0] and marks.max() <= _RESTARTS[1])
    return bool(is_scan) and start <= len(data) - 2


def _plain_png(data: bytes) -> bool:
    """Whether it is a whole PNG of 8-bit RGB, not animated, without a transparent colour."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or data[-8:-4] != b"IEND":
        return False
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    if (bits, colour) != (8, 2) or width * height > _MAX_PIXELS:
        return False
    header = data[: data.find(b"IDAT")]
    return b"tRNS" not in header and b"acTL" not in header


def _plain_webp(data: bytes) -> bool:
    """Whether it is a whole WebP file without alpha, animation or extensions."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return False
    whole, chunk = (int.from_bytes(data[at : at + 4], "little") for at in (4, 16))
    if whole + 8 != len(data) or 20 + chunk + chunk % 2 != len(data):
        return False
    if data[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return bool((width & 0x3FFF) * (height & 0x3FFF) <= _MAX_PIXELS)
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height, alpha = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bits >> 28 & 1
        return not alpha and width * height <= _MAX_PIXELS
    return False
