"""ICC profiles and pictures for tests, made here: nothing of anybody's, and known to the bit."""

import io
import struct
from collections.abc import Sequence

import numpy as np
from PIL import Image

SRGB_XYZ = ((0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139))  # at D50
WHITE_XYZ = (0.9642, 1.0, 0.8249)


def rgb_profile(gamma: float, primaries: Sequence[tuple[float, float, float]] = SRGB_XYZ) -> bytes:
    """A matrix profile of RGB colours; version 2.1."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {b"wtpt": _xyz(WHITE_XYZ)}
    for name, xyz in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags |= {name + b"XYZ": _xyz(xyz), name + b"TRC": curve}
    return _profile(b"RGB ", tags)


def wide_profile() -> bytes:
    """Red and blue change places: nobody takes the result for the original."""
    return rgb_profile(2.2, SRGB_XYZ[::-1])


def grey_profile(gamma: float) -> bytes:
    """A profile of grey levels."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    return _profile(b"GRAY", {b"wtpt": _xyz(WHITE_XYZ), b"kTRC": curve})


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"made for tests\0"
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(79), **tags}
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    header = struct.pack(
        ">I4sI4s4s4s", start + len(body), bytes(4), 0x02100000, b"mntr", space, b"XYZ "
    )
    header += (
        bytes(12)
        + b"acsp"
        + bytes(28)
        + b"".join(struct.pack(">i", round(v * 65536)) for v in WHITE_XYZ)
    )
    return header.ljust(128, b"\0") + table + body


def smooth(height: int, width: int) -> Image.Image:
    """A picture that any encoder keeps nearly as it is, and that no turn or mirror leaves alike."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    rgb_HWC = np.stack([40 + 180 * y, 220 - 150 * x, 60 + 90 * (x + y)], axis=2)
    return Image.fromarray(rgb_HWC.round().astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file of that kind."""
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def photographed(height: int, width: int, seed: int = 0) -> np.ndarray:
    """RGB uint8 with detail of every size, falling off as in photographs: something to judge."""
    rng = np.random.default_rng(seed)
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falling = 1 / np.maximum(np.hypot(y, x), 1 / max(height, width))
    spectrum = np.fft.rfft2(rng.normal(size=(3, height, width))) * falling
    values = np.fft.irfft2(spectrum, (height, width)).transpose(1, 2, 0)
    return np.clip(128 + 45 * values / values.std(), 0, 255).round().astype(np.uint8)
