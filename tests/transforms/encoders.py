"""JPEG files of many encoders: by library, settings and tables, some joined here by hand."""

import io
import struct
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import Image

_FACTORS = {
    "411": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "440": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}
# Steps that grow with frequency: as mozjpeg's flat-then-steep table, and a camera's own.
_U, _V = np.meshgrid(np.arange(8), np.arange(8))
STEEP = (np.rint(8 + 1.6 * (_U + _V) ** 1.7)).astype(int).ravel().tolist()
CAMERA = (np.rint(1 + 0.35 * np.hypot(_U, 1.2 * _V) ** 1.5)).astype(int).ravel().tolist()
CAMERA_CHROMA = [min(255, 2 * step + 1) for step in CAMERA]
SKEWED = (np.rint(2 + 3 * _U + 1 * _V)).astype(int).ravel().tolist()  # no turn leaves it alike
WIDE = [min(700, 7 * step) for step in STEEP]  # more than 8 bits hold

Encoder = Callable[[np.ndarray], bytes]


def _pillow(**options: object) -> Encoder:
    def encode(image_HWC: np.ndarray) -> bytes:
        sink = io.BytesIO()
        image = Image.fromarray(image_HWC)
        if options.get("mode"):
            image = image.convert(str(options["mode"]))
        kept = {name: value for name, value in options.items() if name != "mode"}
        image.save(sink, "JPEG", **kept)
        return sink.getvalue()

    return encode


def _opencv(quality: int, factors: str, *more: int) -> Encoder:
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _FACTORS[factors], *more]

    def encode(image_HWC: np.ndarray) -> bytes:
        return bytes(cv2.imencode(".jpg", image_HWC[:, :, ::-1], flags)[1])

    return encode


ENCODERS: dict[str, Encoder] = {
    "pillow 75 4:2:0": _pillow(quality=75),
    "pillow 95 4:4:4": _pillow(quality=95, subsampling=0),
    "pillow 90 4:2:2": _pillow(quality=90, subsampling=1),
    "pillow 60 progressive": _pillow(quality=60, progressive=True),
    "pillow 85 optimised": _pillow(quality=85, optimize=True),
    "pillow 100": _pillow(quality=100),
    "pillow 10": _pillow(quality=10),
    "pillow web_high": _pillow(quality="web_high"),
    "pillow photoshop": _pillow(quality=98, subsampling=0, progressive=True, optimize=True),
    "pillow grey": _pillow(quality=80, mode="L"),
    "pillow RGB planes": _pillow(quality=90, keep_rgb=True),
    "mozjpeg's kind": _pillow(qtables=[STEEP, STEEP], progressive=True, optimize=True),
    "one table": _pillow(qtables=[SKEWED], subsampling=0),
    "three tables": _pillow(qtables=[CAMERA, CAMERA_CHROMA, SKEWED], subsampling=1),
    "camera 4:2:2": _pillow(qtables=[CAMERA, CAMERA_CHROMA], subsampling=1),
    "camera 4:2:0": _pillow(qtables=[CAMERA, SKEWED], subsampling=2),
    "16-bit tables": _pillow(qtables=[WIDE, WIDE], subsampling=2),
    "opencv 95 4:2:0": _opencv(95, "420"),
    "opencv 80 4:4:0": _opencv(80, "440"),
    "opencv 70 4:1:1": _opencv(70, "411"),
    "opencv 90 4:2:2": _opencv(90, "422", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "opencv chroma 40": _opencv(90, "444", cv2.IMWRITE_JPEG_CHROMA_QUALITY, 40),
    "pillow restarts": _pillow(quality=82, restart_marker_rows=1),
}


def quantisation(data: bytes) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """Each plane's table (as stored, in zigzag) and sampling factors, read from the bytes."""
    tables: dict[int, list[int]] = {}
    planes: list[tuple[int, int, int]] = []
    for marker, body in _segments(data):
        if marker == 0xDB:
            tables |= dict(_tables(body))
        elif marker in (0xC0, 0xC1, 0xC2):
            parts = (body[6 + 3 * at : 9 + 3 * at] for at in range(body[5]))
            planes = [(part[1] >> 4, part[1] & 15, part[2]) for part in parts]
    return [tables[number] for _, _, number in planes], [(h, v) for h, v, _ in planes]


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 2
    while data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def _tables(body: bytes) -> Iterator[tuple[int, list[int]]]:
    while body:
        wide, number = body[0] >> 4, body[0] & 15
        size = 64 * (1 + wide)
        yield number, list(struct.unpack(">64H" if wide else "64B", body[1 : 1 + size]))
        body = body[1 + size :]
