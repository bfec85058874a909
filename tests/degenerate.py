"""Pictures that hold nothing to judge, by kind; five of each, as files. Made here, to the bit."""

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from tests.pictures import photographed

EACH = 5
_SIDES = (256, 384, 512, 300, 640)
_QUALITIES = (95, 90, 85, 80, 75)
Make = Callable[[int, np.random.Generator], bytes]
Pixels = np.ndarray


def files(kind: str) -> list[bytes]:
    """The files of a kind."""
    return [KINDS[kind](k, np.random.default_rng(k)) for k in range(EACH)]


def _file(values: Pixels, kind: str = "PNG", **options: object) -> bytes:
    pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, kind, **options)
    return sink.getvalue()


def _flat(k: int, rng: np.random.Generator) -> Pixels:
    return np.full((_SIDES[k], _SIDES[k], 3), rng.integers(5, 250, 3), np.float64)


def _framed(k: int, rng: np.random.Generator) -> bytes:
    pixels = _flat(k, rng)
    pixels[[0, -1]] = pixels[:, [0, -1]] = 255 - pixels[1, 1]
    return _file(pixels)


def _noisy_flat(k: int, rng: np.random.Generator) -> bytes:
    pixels = _flat(k, rng)
    noise = rng.normal(0, (1, 2, 4, 8, 3)[k], pixels.shape)
    return _file(pixels + noise, "JPEG", quality=_QUALITIES[k])


def _ordered(k: int, rng: np.random.Generator) -> bytes:
    order = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
    tile = np.tile(order, (_SIDES[k] // 4, _SIDES[k] // 4))
    return _file(np.where(tile < (2, 5, 8, 11, 14)[k], 255, 0))


def _diffused(k: int, rng: np.random.Generator) -> bytes:
    grey = Image.new("L", (_SIDES[k], _SIDES[k]), (30, 77, 100, 160, 220)[k])
    return _file(np.array(grey.convert("1")) * 255.0)


def _ramp(k: int, rng: np.random.Generator) -> Pixels:
    """From one colour to another, in five directions."""
    y, x = np.mgrid[: _SIDES[k], : _SIDES[k]] / (_SIDES[k] - 1)
    angle = np.radians((0, 90, 45, 17, 135)[k])
    along = np.cos(angle) * x + np.sin(angle) * y
    along = (along - along.min()) / (along.max() - along.min())
    first, last = rng.integers(0, 256, (2, 3))
    return np.asarray(first + (last - first) * along[..., None])


def _radial(k: int, rng: np.random.Generator) -> bytes:
    y, x = np.mgrid[: _SIDES[k], : _SIDES[k]] / (_SIDES[k] - 1) - 0.5
    first, last = rng.integers(0, 256, (2, 3))
    return _file(first + (last - first) * np.hypot(y, x)[..., None] / 0.71)


def _noise(k: int, rng: np.random.Generator) -> Pixels:
    return rng.integers(0, 256, (_SIDES[k], _SIDES[k], 3), np.uint8)


def _coarse(k: int, rng: np.random.Generator) -> bytes:
    """Noise of a coarser grain: enlarged, or blurred."""
    fine = rng.integers(0, 256, (_SIDES[k], _SIDES[k], 3), np.uint8)
    if k < 2:
        return _file(cv2.GaussianBlur(fine, (0, 0), k + 1))
    small = np.ascontiguousarray(fine[:: 2 * k - 2, :: 2 * k - 2])
    return _file(cv2.resize(small, (_SIDES[k], _SIDES[k]), interpolation=cv2.INTER_CUBIC))


def _small(k: int, rng: np.random.Generator) -> bytes:
    side = (8, 16, 32, 48, 64)[k]
    return _file(photographed(side, side, k), "JPEG", quality=90)


def _icon(k: int, rng: np.random.Generator) -> bytes:
    side = (16, 24, 32, 48, 64)[k]
    picture = np.full((side, side, 3), 255, np.uint8)
    cv2.circle(picture, (side // 2, side // 2), side // 3, rng.integers(0, 200, 3).tolist(), -1)
    return _file(picture)


def _hidden(k: int, rng: np.random.Generator) -> bytes:
    """All transparent; what is hidden is noise."""
    return _file(np.dstack([_noise(k, rng), np.zeros((_SIDES[k], _SIDES[k]), np.uint8)]))


def _two_colours(k: int, rng: np.random.Generator, which: Pixels) -> bytes:
    return _file(rng.integers(0, 256, (2, 3))[which.astype(int)])


def _checked(k: int, rng: np.random.Generator) -> bytes:
    y, x = np.mgrid[: _SIDES[k], : _SIDES[k]] // (1, 7, 16, 32, 50)[k]
    return _two_colours(k, rng, (y + x) % 2)


def _striped(k: int, rng: np.random.Generator) -> bytes:
    y, x = np.mgrid[: _SIDES[k], : _SIDES[k]]
    along = (x, y, x + y, x, 2 * y + x)[k]
    return _two_colours(k, rng, along // (2, 9, 12, 40, 20)[k] % 2)


def _waves(k: int, rng: np.random.Generator) -> bytes:
    y, x = np.mgrid[: _SIDES[k], : _SIDES[k]] * 2 * np.pi / (5.3, 11, 23.7, 40, 60)[k]
    return _file(128 + 60 * np.sin(x) + (60 * np.sin(y) if k % 2 else 0))


def _bars(k: int, rng: np.random.Generator) -> bytes:
    """Colour bars, upright or lying, and squares of a palette."""
    squares = rng.integers(0, 256, ((1, 8, 4, 16, 1)[k], (8, 1, 4, 16, 20)[k], 3), np.uint8)
    return _file(cv2.resize(squares, (_SIDES[k], _SIDES[k]), interpolation=cv2.INTER_NEAREST))


def _drawn(k: int, rng: np.random.Generator, where: Callable[[Pixels, Pixels], Pixels]) -> Pixels:
    """Two colours with smooth edges: the second where `where` of y and x from -1 to 1 holds."""
    y, x = (np.mgrid[: 4 * _SIDES[k], : 4 * _SIDES[k]] + 0.5) / (2 * _SIDES[k]) - 1
    share = where(y, x).astype(np.float32)
    share = cv2.resize(share, (_SIDES[k], _SIDES[k]), interpolation=cv2.INTER_AREA)
    first, last = rng.integers(0, 120, 3), rng.integers(136, 256, 3)
    return np.asarray(first + (last - first) * share[..., None])


def _disc(k: int, rng: np.random.Generator) -> bytes:
    top, left, radius = *rng.uniform(-0.1, 0.1, 2), (0.2, 0.3, 0.25, 0.4, 0.15)[k]
    return _file(_drawn(k, rng, lambda y, x: np.hypot(y - top, x - left) < radius))


def _rings(k: int, rng: np.random.Generator) -> bytes:
    top, left, wide = *rng.uniform(-0.1, 0.1, 2), (0.1, 0.35, 0.12, 0.2, 0.08)[k]
    rings = _drawn(k, rng, lambda y, x: np.hypot(y - top, x - left) // wide % 2 == 0)
    return _file(rings)


def _split(k: int, rng: np.random.Generator) -> bytes:
    angle, off = rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.2)
    parts = _drawn(k, rng, lambda y, x: np.cos(angle) * x + np.sin(angle) * y > off)
    return _file(parts)


def _bordered(k: int, rng: np.random.Generator) -> bytes:
    inner = (0.97, 0.9, 0.8, 0.7, 0.6)[k] * min(1.0, 256 / _SIDES[k])
    square = _drawn(k, rng, lambda y, x: np.maximum(np.abs(y), np.abs(x)) < inner)
    return _file(square, "JPEG", quality=_QUALITIES[k]) if k % 2 else _file(square)


def _conic(k: int, rng: np.random.Generator) -> bytes:
    y, x = np.mgrid[: _SIDES[k], : _SIDES[k]] / (_SIDES[k] - 1) - 0.5
    first, last = rng.integers(0, 256, (2, 3))
    turn = (np.arctan2(y, x) + np.pi) / (2 * np.pi)
    return _file(first + (last - first) * turn[..., None])


def _three_colours(k: int, rng: np.random.Generator) -> bytes:
    along = _ramp(k, np.random.default_rng(1))[..., 0]
    along = (along - along.min()) / (along.max() - along.min())
    stops = rng.integers(0, 256, (3, 3))
    return _file(np.stack([np.interp(along, (0, 0.5, 1), stops[:, c]) for c in range(3)], -1))


def _blurred(k: int, rng: np.random.Generator) -> bytes:
    """Noise blurred by up to 4 px, its contrast restored."""
    fine = rng.integers(0, 256, (_SIDES[k], _SIDES[k], 3), np.uint8).astype(np.float32)
    soft = cv2.GaussianBlur(fine, (0, 0), (1, 2, 3, 4, 4)[k])
    return _file(128 + 40 * (soft - soft.mean()) / soft.std())


KINDS: dict[str, Make] = {
    "one colour": lambda k, rng: _file(_flat(k, rng)),
    "one colour in a 1-px frame": _framed,
    "one colour with noise, as JPEG": _noisy_flat,
    "one colour, ordered dithering": _ordered,
    "one colour, diffused dithering": _diffused,
    "gradient": lambda k, rng: _file(_ramp(k, rng)),
    "gradient as JPEG": lambda k, rng: _file(_ramp(k, rng), "JPEG", quality=_QUALITIES[k]),
    "gradient with noise": lambda k, rng: _file(
        (ramp := _ramp(k, rng)) + rng.normal(0, 2**k, ramp.shape)
    ),
    "radial gradient": _radial,
    "colour noise": lambda k, rng: _file(_noise(k, rng)),
    "grey noise": lambda k, rng: _file(
        128 + rng.normal(0, (5, 15, 30, 50, 80)[k], (_SIDES[k], _SIDES[k]))
    ),
    "black and white noise": lambda k, rng: _file(
        255.0 * (rng.random((_SIDES[k], _SIDES[k])) < (0.5, 0.3, 0.1, 0.03, 0.8)[k])
    ),
    "noise as JPEG": lambda k, rng: _file(_noise(k, rng), "JPEG", quality=(95, 75, 50, 30, 10)[k]),
    "noise of a coarse grain": _coarse,
    "avatars of 8 to 64 px": _small,
    "icons of 16 to 64 px": _icon,
    "all transparent": _hidden,
    "checkerboard": _checked,
    "stripes": _striped,
    "waves": _waves,
    "bars and palettes": _bars,
    "a disc on a plain ground": _disc,
    "concentric rings": _rings,
    "two halves": _split,
    "a plain square in a border": _bordered,
    "conic gradient": _conic,
    "gradient of three colours": _three_colours,
    "gradient as JPEG of low quality": lambda k, rng: _file(
        _ramp(k, rng), "JPEG", quality=(70, 60, 50, 40, 75)[k]
    ),
    "blurred noise": _blurred,
}
