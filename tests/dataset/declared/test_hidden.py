"""What is hidden in pixels: a text in last bits, and Stable Diffusion's watermark."""

import gzip
import json
import math

import numpy as np
import pytest
from PIL import Image

from rayapp.dataset.declared import read_declared
from rayapp.dataset.declared.hidden import MARKS, _tail, read_mark
from tests.dataset.declared.files import A1111, saved


def with_text(magic: bytes, text: bytes, *, alpha: bool) -> Image.Image:
    """A picture whose last bits hold a text, column by column."""
    packed = gzip.compress(text) if magic.endswith(b"comp") else text
    content = magic + (8 * len(packed)).to_bytes(4, "big") + packed
    bits = np.unpackbits(np.frombuffer(content, np.uint8))
    pixels = np.random.default_rng(0).integers(0, 255, (90, 110, 4 if alpha else 3), dtype=np.uint8)
    planes = (pixels[..., 3:] if alpha else pixels).swapaxes(0, 1)
    flat = planes.reshape(-1).copy()
    flat[: len(bits)] = (flat[: len(bits)] & 0xFE) | bits
    planes[:] = flat.reshape(planes.shape)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("magic", [b"stealth_pnginfo", b"stealth_pngcomp"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_text_in_alpha_is_found_where_asked(magic: bytes, kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = saved(kind, with_text(magic, A1111.encode(), alpha=True), **options)
    assert read_declared(data).kind == "nothing"
    found = read_declared(data, hidden=True)
    assert (found.kind, found.first.what) == ("ai-generated", "Stable Diffusion WebUI's settings")
    assert "last bits" in found.by


def test_texts_in_colours_and_novelais_object_are_found() -> None:
    comment = json.dumps({"steps": 28, "seed": 1, "uc": "", "scale": 5, "sampler": "k"})
    text = json.dumps({"Software": "NovelAI", "Comment": comment}).encode()
    data = saved("PNG", with_text(b"stealth_rgbcomp", text, alpha=False))
    assert read_declared(data, hidden=True).first.what == "NovelAI's settings"


@pytest.mark.parametrize("size", [0, 1 << 30])
def test_a_damaged_text_declares_nothing(size: int) -> None:
    image = with_text(b"stealth_pngcomp", b"", alpha=True)
    pixels = np.array(image)
    bits = np.unpackbits(np.frombuffer(size.to_bytes(4, "big"), np.uint8))
    column = pixels[:, :, 3].T.reshape(-1)
    column[120:152] = (column[120:152] & 0xFE) | bits
    pixels[:, :, 3] = column.reshape(110, 90).T
    assert read_declared(saved("PNG", Image.fromarray(pixels)), hidden=True).kind == "nothing"


def marked(name: str, side: int = 300) -> np.ndarray:
    """A picture with a mark: in each block of the chroma's low band the largest value is moved."""
    import cv2

    rng = np.random.default_rng(1)
    smooth = cv2.resize(rng.integers(60, 200, (12, 12, 3), dtype=np.uint8), (side, side))
    yuv = cv2.cvtColor(smooth, cv2.COLOR_RGB2YUV).astype(np.float64)
    u = yuv[..., 1]
    bits = MARKS[name]
    number = 0
    for top in range(0, side // 8 * 8, 8):
        for left in range(0, side // 8 * 8, 8):
            block = u[top : top + 8, left : left + 8]
            low = block.reshape(4, 2, 4, 2).sum(axis=(1, 3)) / 2
            at = int(low.reshape(-1)[1:].argmax()) + 1
            row, column = divmod(at, 4)
            wanted = (low[row, column] // 36 + 0.25 + 0.5 * bits[number % len(bits)]) * 36
            move = (wanted - low[row, column]) / 2
            block[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += move
            number += 1
    return cv2.cvtColor(np.clip(yuv.round(), 0, 255).astype(np.uint8), cv2.COLOR_YUV2RGB)


@pytest.mark.parametrize("name", list(MARKS))
def test_a_mark_is_found_with_its_chance(name: str) -> None:
    data = saved("PNG", Image.fromarray(marked(name)))
    found = read_declared(data, hidden=True)
    assert found.first.what == f"{name}'s watermark"
    assert f"of {len(MARKS[name])} bits, p = " in found.detail
    assert "anyone can embed it" in found.detail
    assert read_declared(data).kind == "nothing"


def test_no_mark_is_found_where_there_is_none() -> None:
    rng = np.random.default_rng(2)
    chances = [
        read_mark(rng.integers(0, 255, (260, 260, 3), dtype=np.uint8), name)[1]
        for name in MARKS
        for _ in range(20)
    ]
    assert min(chances) > 1e-3
    assert read_mark(np.zeros((255, 255, 3), np.uint8), "Stable Diffusion XL") == (0, 1.0)


def test_the_chance_is_the_exact_tail() -> None:
    assert _tail(48, 48) == 2.0**-48
    assert _tail(47, 48) == 49 * 2.0**-48
    assert _tail(0, 136) == 1
    assert _tail(69, 136) == pytest.approx((1 - math.comb(136, 68) / 2**136) / 2)
