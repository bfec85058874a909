"""What generators hide in pixels and anyone can read: Stable Diffusion's watermark, hidden texts.

Read only where asked, as the image must be decoded. No key protects them, so that anyone can write
them too. Google's SynthID and Meta's Content Seal have no open reader: nothing is said of them.

Shapes: H W of the image · B bits of a mark · N blocks of 16 coefficients.
"""

import contextlib
import gzip
import io
import json
import math
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from rayapp.dataset.declared.declaration import AI_GENERATED, UNVERIFIED, Declaration
from rayapp.dataset.declared.texts import of_texts
from rayapp.dataset.images import ImageError, open_image
from rayapp.dataset.pixels import DECODER_ERRORS

# The bits that reference code embeds by the method dwtDct of the library invisible-watermark:
# https://github.com/CompVis/stable-diffusion (17 letters), Stability-AI/generative-models (48 bits)
_SDXL = 0xB3EC907BB19E
MARKS = {
    "Stable Diffusion 1": np.unpackbits(np.frombuffer(b"StableDiffusionV1", np.uint8)),
    "Stable Diffusion XL": np.unpackbits(np.frombuffer(_SDXL.to_bytes(6, "big"), np.uint8)),
}
MOST_P = 1e-6  # of a mark that is reported; benchmarks/declared.py counts how often reals have one
_STEP = 36.0  # of the quantiser
_LEAST_PIXELS = 256 * 256  # smaller images are not marked
_STEALTH = {
    b"stealth_pnginfo": ("alpha", False),
    b"stealth_pngcomp": ("alpha", True),
    b"stealth_rgbinfo": ("colours", False),
    b"stealth_rgbcomp": ("colours", True),
}
_MAGIC_BYTES = 15
_MOST_TEXT = 1 << 20


def of_pixels(data: bytes) -> Iterator[Declaration]:
    """What the pixels of an image file declare; nothing of one that can't be decoded."""
    try:
        image = open_image(data)
        pixels = np.asarray(image if image.mode in ("RGB", "RGBA") else image.convert("RGB"))
    except (*DECODER_ERRORS, ImageError):
        return
    text = hidden_text(pixels)
    if text:
        where = f"{image.format} pixels' last bits"
        yield from of_texts([(key, where, value) for key, value in _texts(text).items()])
    for name in MARKS:
        matched, p = read_mark(np.ascontiguousarray(pixels[..., :3]), name)
        if p * len(MARKS) <= MOST_P:
            detail = f"{matched} of {len(MARKS[name])} bits, p = {p:.1e}; anyone can embed it"
            what = f"{name}'s watermark"
            yield Declaration(AI_GENERATED, what, f"{image.format} pixels", UNVERIFIED, detail)


def read_mark(pixels_HWC: NDArray[np.uint8], name: str) -> tuple[int, float]:
    """How many bits of a mark are in RGB pixels, and how likely as many are by chance.

    The chance is the upper tail of the binomial distribution with fair bits, exact.
    """
    expected_B = MARKS[name]
    height, width = pixels_HWC.shape[:2]
    if height * width < _LEAST_PIXELS:
        return 0, 1.0
    u_HW = cv2.cvtColor(pixels_HWC, cv2.COLOR_RGB2YUV)[..., 1].astype(np.float64)
    u_HW = u_HW[: height // 4 * 4, : width // 4 * 4]
    # The low band of a Haar transform: sums of 2 × 2, halved.
    low = (u_HW[::2, ::2] + u_HW[1::2, ::2] + u_HW[::2, 1::2] + u_HW[1::2, 1::2]) / 2
    rows, columns = low.shape[0] // 4, low.shape[1] // 4
    blocks = low[: rows * 4, : columns * 4].reshape(rows, 4, columns, 4).swapaxes(1, 2)
    blocks_N = blocks.reshape(-1, 16)
    # One bit a block, in its largest coefficient but the first: upper or lower half of a step.
    largest_N = blocks_N[:, 1:].max(axis=1)
    bit_N = (largest_N % _STEP) > _STEP / 2
    turn_N = np.arange(len(bit_N)) % len(expected_B)
    counts_B = np.bincount(turn_N, minlength=len(expected_B))
    ones_B = np.bincount(turn_N, weights=bit_N, minlength=len(expected_B))
    read_B = ones_B * 255 > 127 * np.maximum(counts_B, 1)
    matched = int((read_B == expected_B).sum())
    return matched, _tail(matched, len(expected_B))


def _tail(matched: int, number: int) -> float:
    """P(X ≥ matched) of X binomial with `number` fair bits."""
    ways = sum(math.comb(number, k) for k in range(matched, number + 1))
    return float(ways / 2**number)


def hidden_text(pixels_HWC: NDArray[np.uint8]) -> str:
    """The text in the last bits of alpha or colours, column by column; `` where there is none."""
    for planes in (pixels_HWC[..., 3:], pixels_HWC[..., :3]):
        if planes.shape[2] == 0:
            continue
        columns = planes.swapaxes(0, 1)
        head = _bytes(columns, 0, _MAGIC_BYTES + 4)
        found = _STEALTH.get(head[:_MAGIC_BYTES])
        if found is None or (found[0] == "alpha") != (planes.shape[2] == 1):
            continue
        size = int.from_bytes(head[_MAGIC_BYTES:], "big") // 8
        if not 0 < size <= _MOST_TEXT:
            return ""
        packed = _bytes(columns, _MAGIC_BYTES + 4, size)
        with contextlib.suppress(OSError, EOFError, ValueError):
            raw = gzip.GzipFile(fileobj=io.BytesIO(packed)).read(_MOST_TEXT) if found[1] else packed
            return raw.decode("utf-8", "replace")
    return ""


def _texts(text: str) -> dict[str, str]:
    """NovelAI hides all the texts of its PNGs as one object; others the settings alone."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, dict) and isinstance(value.get("Comment"), str):
            return {str(key): one for key, one in value.items() if isinstance(one, str)}
    return {"parameters": text}


def _bytes(columns_WHC: NDArray[np.uint8], start: int, size: int) -> bytes:
    """Bytes from the last bits, most significant bit first."""
    height, depth = columns_WHC.shape[1:]
    first, last = start * 8 // (height * depth), -(-(start + size) * 8 // (height * depth))
    bits = columns_WHC[first:last].reshape(-1) & 1
    skipped = start * 8 - first * height * depth
    return np.packbits(bits[skipped : skipped + size * 8]).tobytes()
