"""Pictures that hold nothing to judge by: a network's score of them means nothing, so none is told.

Looked at is what the detector sees of a picture, its mirrored edge left off; every view must hold
nothing. The rules, with levels of 0 to 255 and n the shorter side of what is seen:

- too few pixels: fewer than half as many as the view has, the rest is mirrored or enlarged (of a
  user's own detector: a shorter side below 96 px); or a shorter side below the detector's minimum
- one colour: 99 % of the pixels within 2 levels of the median one
- a smooth gradient: 98 % within 0.8 levels of the mean of the square of n/27 around them; or 99 %
  within 3.5 of one surface of second degree, and grey means of squares of n/16 within 0.65
- noise: means of neighbouring squares of n/16 correlate by less than 0.25, those of n/32 by less
  than 0.33, along rows and along columns, and eighths of the picture vary alike (by 30 %
  at most); below 192 px, where cloth looks so, neighbouring pixels by less than 0.5 too
- a repeating pattern: fine structure (what a 9-px mean takes away) comes again after some shift
  along the rows, and after some along the columns, with less than 0.4 of the energy that unlike
  parts would leave (below 192 px: 0.15)
- plain areas: so few rows and columns differ at all from the one before that the product of both
  shares is below a sixteenth

How often they hold of real photographs, and of pictures made of nothing, is measured by
`benchmarks/nothing_to_judge.py`. Shapes: K views · H W · C channels.
"""

import functools
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from rayapp.dataset.images import Pixels
from rayapp.models.detector_spec import Preprocessing

ONE_COLOUR = "nothing but one colour"
GRADIENT = "nothing but a smooth gradient"
NOISE = "nothing but noise"
PATTERN = "nothing but a repeating pattern"
PLAIN_AREAS = "nothing but plain areas"
TOO_FEW = "too few pixels"

Grey = NDArray[np.float32]
_LEAST_SEEN = 0.5  # of a view's pixels are the picture's own
_LEAST_SIDE = 96  # px, of a detector that does not say how large its view is
_LEAST_JUDGED = 16  # px: of less than that, rules about areas say nothing
_GRID = 16  # squares along a side, of which means are taken
_TILE = 256  # px, of a picture that is seen whole
_EDGE = 64  # of the shorter side is frame, and no content
_NEARLY_ALL, _MOST = 0.99, 0.98  # of the pixels; the others may be a mark
_ONE_COLOUR, _SMOOTH, _SURFACE, _SURFACE_GREY = 2.0, 0.8, 3.5, 0.65  # levels
_UNLIKE_16, _UNLIKE_32, _ALIKE = 0.25, 0.33, 0.3
_REPEATED, _DIFFERENT = 0.4, 1 / 16
_LIVELY, _LIVELY_SHARE = 16, 0.1
_SMALL = 192  # px, and what holds of smaller parts: fine cloth is all that many of them show
_SMALL_UNLIKE, _SMALL_REPEATED = 0.5, 0.15


def nothing_to_judge(
    views_KHWC: Pixels,
    size_HW: tuple[int, int],
    preprocessing: Preprocessing | None,
    min_side_px: int | None = None,
) -> str:
    """Why a picture cannot be judged, `` where it can.

    Args:
        views_KHWC: uint8, what the detector sees of it; of a user's own detector the picture.
        size_HW: of the picture.
        preprocessing: how the views were cut; None: the picture is seen whole.
        min_side_px: the shorter side from which on the detector judges.
    """
    height, width = size_HW
    if min_side_px and min(size_HW) < min_side_px:
        return f"{TOO_FEW}: {width}×{height}, this detector judges from {min_side_px} px on"
    if few := _few_pixels(size_HW, preprocessing):
        return f"{TOO_FEW}: {width}×{height}, {few}"
    reason = ""
    for part_HWC in _parts(views_KHWC, size_HW, preprocessing):
        if not (found := _nothing_in(part_HWC)):
            return ""
        reason = reason or found
    return reason


def kind_of(reason: str) -> str:
    """A reason without what it says of this one picture, for counting."""
    return reason.partition(":")[0]


def _few_pixels(size_HW: tuple[int, int], preprocessing: Preprocessing | None) -> str:
    if preprocessing is None:
        return f"from {_LEAST_SIDE} px on there is enough" if min(size_HW) < _LEAST_SIDE else ""
    size = preprocessing.size
    if preprocessing.view == "resize":
        side = max(preprocessing.resize_to or size, size)
        seen, rest = min(min(size_HW) / side, 1.0) ** 2, "enlarged"
    else:
        height, width = (min(side, size) for side in size_HW)
        seen, rest = height * width / size**2, "most of it mirrored"
    return f"seen as {size}×{size}, {rest}" if seen < _LEAST_SEEN else ""


def _parts(
    views_KHWC: Pixels, size_HW: tuple[int, int], preprocessing: Preprocessing | None
) -> Iterator[Pixels]:
    """What the views show of the picture itself."""
    if preprocessing is None:
        for top in range(0, max(size_HW[0] - _TILE // 2, 1), _TILE):
            for left in range(0, max(size_HW[1] - _TILE // 2, 1), _TILE):
                yield views_KHWC[0, top : top + _TILE, left : left + _TILE]
        return
    size = preprocessing.size
    if preprocessing.view == "resize":
        yield from views_KHWC
        return
    height, width = (min(side, size) for side in size_HW)
    top, left = (size - height) // 2, (size - width) // 2
    yield from views_KHWC[:, top : top + height, left : left + width]


def _nothing_in(part_HWC: Pixels) -> str:
    """Which rule holds of a part of a picture; `` where none does."""
    edge = max(min(part_HWC.shape[:2]) // _EDGE, 1)
    inner_HWC = np.ascontiguousarray(part_HWC[edge:-edge, edge:-edge])
    if min(inner_HWC.shape[:2]) < _LEAST_JUDGED:
        return ""
    levels_HWC = inner_HWC.astype(np.float32)
    grey_HW = cv2.cvtColor(levels_HWC, cv2.COLOR_RGB2GRAY)
    if not _is_lively(inner_HWC):
        if _is_one_colour(inner_HWC):
            return ONE_COLOUR
        if _is_smooth(levels_HWC) or _is_surface(levels_HWC, grey_HW):
            return GRADIENT
    if _is_noise(grey_HW):
        return NOISE
    if _repeats(grey_HW):
        return PATTERN
    return PLAIN_AREAS if _has_plain_areas(inner_HWC) else ""


def _distance(away_HWC: NDArray[np.generic], share: float, step: int = 2) -> float:
    """How far away that share of the pixels is at most, in any channel.

    Each `step`th row and column tells.
    """
    some = np.ascontiguousarray(np.abs(away_HWC[::step, ::step])).reshape(-1, away_HWC.shape[2])
    furthest = np.maximum.reduce([some[:, c] for c in range(some.shape[1])])
    at = int(share * (furthest.size - 1))
    return float(np.partition(furthest, at)[at])


def _is_lively(pixels_HWC: Pixels) -> bool:
    """Whether some rows change more than one colour or a gradient may; it spares most pictures.

    Where 99 % of the pixels are within 3.5 levels of a plane, a pixel and the two that are 4 px
    away from it can add up to more than 16 in 3 % at most.
    """
    rows_NWC = pixels_HWC[::16].astype(np.int16)
    bends_NWC = np.abs(rows_NWC[:, :-8] + rows_NWC[:, 8:] - 2 * rows_NWC[:, 4:-4])
    return float((bends_NWC > _LIVELY).mean()) > _LIVELY_SHARE


def _is_one_colour(pixels_HWC: Pixels) -> bool:
    median_C = np.median(pixels_HWC[::8, ::8].reshape(-1, 3), axis=0).round().astype(np.int16)
    return _distance(pixels_HWC - median_C, _NEARLY_ALL) <= _ONE_COLOUR


def _is_smooth(levels_HWC: Grey) -> bool:
    side = max(5, min(levels_HWC.shape[:2]) // 27 | 1)
    cut = slice(side // 2, -(side // 2))
    return _distance((levels_HWC - cv2.blur(levels_HWC, (side, side)))[cut, cut], _MOST) <= _SMOOTH


def _means(levels: Grey, side: int) -> Grey:
    """Means over a grid of side × side areas."""
    return np.asarray(cv2.resize(levels, (side, side), interpolation=cv2.INTER_AREA))


@functools.lru_cache(maxsize=8)
def _powers(height: int, width: int) -> Grey:
    """Second-degree terms at the pixels of a picture [H, W, 6], which reaches from -1 to 1."""
    y, x = (((np.arange(n) + 0.5) * 2 / n - 1).astype(np.float32) for n in (height, width))
    y_HW, x_HW = np.meshgrid(y, x, indexing="ij")
    return np.stack([np.ones_like(x_HW), x_HW, y_HW, x_HW * y_HW, x_HW**2, y_HW**2], axis=-1)


def _surface(grid_HWC: Grey) -> Grey:
    """Coefficients [6, C] of the surface through most of a grid of means."""
    terms, means = _powers(_GRID, _GRID).reshape(-1, 6), grid_HWC.reshape(_GRID**2, -1)
    kept = np.ones(len(means), dtype=bool)
    for _ in range(2):
        found = np.linalg.lstsq(terms[kept], means[kept], rcond=None)[0]
        away = np.abs(means - terms @ found).max(axis=1)
        kept = away <= max(float(np.quantile(away, 0.8)), 1e-3)
    return np.asarray(np.linalg.lstsq(terms[kept], means[kept], rcond=None)[0], dtype=np.float32)


@functools.cache
def _fitting() -> Grey:
    return np.asarray(np.linalg.pinv(_powers(_GRID, _GRID).reshape(-1, 6)), dtype=np.float32)


def _without_surface(grey_HW: Grey) -> Grey:
    """What the surface through all of the means leaves."""
    surface = _fitting() @ _means(grey_HW, _GRID).reshape(-1)
    return np.asarray(grey_HW - _powers(*grey_HW.shape) @ surface)


def _is_surface(levels_HWC: Grey, grey_HW: Grey) -> bool:
    means_HW = _means(grey_HW, _GRID)[..., None]
    if _distance(means_HW - _powers(_GRID, _GRID) @ _surface(means_HW), _MOST, 1) > _SURFACE_GREY:
        return False  # most pictures: their pixels need no look
    surface = _surface(_means(levels_HWC, _GRID))
    return _distance(levels_HWC - _powers(*grey_HW.shape) @ surface, _NEARLY_ALL) <= _SURFACE


def _is_noise(grey_HW: Grey) -> bool:
    shorter = min(grey_HW.shape)
    for side, most in ((_GRID, _UNLIKE_16), (2 * _GRID, _UNLIKE_32)):
        if shorter < 2 * side:  # too few to take means of
            continue
        means_HW = _means(grey_HW, side)
        if _neighbours_alike(_without_surface(means_HW)) >= most:
            return False
    if shorter < _SMALL and _neighbours_alike(grey_HW) >= _SMALL_UNLIKE:
        return False
    height, width = (side // 8 for side in grey_HW.shape)
    eighths = (
        _without_surface(grey_HW)[: 8 * height, : 8 * width]
        .reshape(8, height, 8, width)
        .std(axis=(1, 3))
    )
    return bool(eighths.std() < _ALIKE * eighths.mean())


def _neighbours_alike(means_HW: Grey) -> float:
    """The larger of the correlations with the next in the row, and with the next in the column."""
    centred = means_HW - means_HW.mean()
    power = float(np.square(centred).mean()) + 1e-9
    row = float((centred[:, 1:] * centred[:, :-1]).mean())
    return max(row, float((centred[1:] * centred[:-1]).mean())) / power


def _has_plain_areas(pixels_HWC: Pixels) -> bool:
    def changes(lines: Pixels) -> float:
        return float((lines[1:] != lines[:-1]).reshape(len(lines) - 1, -1).any(axis=1).mean())

    columns_WHC = pixels_HWC.swapaxes(0, 1)
    if changes(pixels_HWC[:, ::16]) * changes(columns_WHC[:, ::16]) >= _DIFFERENT:
        return False  # all of their pixels differ in more
    return changes(pixels_HWC) * changes(columns_WHC) < _DIFFERENT


def _repeats(grey_HW: Grey) -> bool:
    fine_HW = (grey_HW - cv2.blur(grey_HW, (9, 9)))[4:-4, 4:-4]
    most = _REPEATED if min(grey_HW.shape) >= _SMALL else _SMALL_REPEATED
    return all(_comes_again(one) < most for one in (fine_HW, fine_HW.T))


def _comes_again(fine_HW: Grey) -> float:
    """What is left of the energy, at best, if a picture is taken from itself shifted along rows.

    1 is what unlike parts leave. The shift is found in 32 rows, and tried on all.
    """
    length = fine_HW.shape[1]
    rows = np.ascontiguousarray(fine_HW[:: max(1, len(fine_HW) // 32)])
    spectrum = np.fft.rfft(rows, 2 * length, axis=1)
    same = np.fft.irfft(np.square(np.abs(spectrum)).sum(axis=0), 2 * length)[:length]
    energy = np.concatenate([[0.0], np.square(rows).sum(axis=0, dtype=np.float64).cumsum()])
    shifts = np.arange(max(8, length // 32), max(3 * length // 4, 9) + 1)
    both = energy[length - shifts] + energy[length] - energy[shifts] + 1e-6
    best = int(shifts[np.argmin((both - 2 * same[shifts]) / both)])
    ahead, behind = fine_HW[:, best:], fine_HW[:, :-best]
    total = float(np.square(ahead).sum() + np.square(behind).sum())
    return float(np.square(ahead - behind).sum()) / (total + 1e-6)
