"""What a part of a picture shows where it shows nothing but: one colour, noise, a pattern, ….

The rules stand in `nothing_to_judge`. Shapes: H W · C channels.
"""

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

ONE_COLOUR = "nothing but one colour"
GRADIENT = "nothing but a smooth gradient"
NOISE = "nothing but noise"
PATTERN = "nothing but a repeating pattern"
PLAIN_AREAS = "nothing but plain areas"

Pixels = NDArray[np.uint8]
Grey = NDArray[np.float32]
_LEAST_JUDGED = 16  # px: of less than that, rules about areas say nothing
_SMALL = 192  # px, and what holds of smaller parts: fine cloth is all that many of them show
_GRID = 16  # squares along a side, of which means are taken
_EDGE = 64  # of the shorter side is frame, and no content
_LIVELY, _LIVELY_SHARE = 16, 0.1
_ONE_COLOUR, _NEARLY_ALL = 2.0, 0.995
_MOST, _GREY_OFF, _HUE_OFF, _OFF_LEAST, _OFF_MOST = 0.98, 0.14, 0.2, 0.4, 3.5
_PIXELS_LEAST, _PIXELS_OFF = 3.0, 0.2
_EXACT, _ROUNDED, _ROUNDS, _DRAWN, _LEAST_EXACT = 0.5, 0.7, 0.3, 0.97, 0.5
_STEP, _STEPS, _THICK = 4.0, 0.25, 0.006
_DIFFERENT = 1 / 16
_UNLIKE, _UNLIKE_16, _UNLIKE_32 = 0.65, 0.25, 0.5
_UNLIKE_8, _BELL_LEAST, _BELL, _ALIKE, _ALIKE_NEXT, _BLURRED = 0.3, 2.3, 3.4, 0.15, 0.25, 0.12
_REPEATED, _SMALL_REPEATED = 0.4, 0.15
_TURNED, _MET, _QUIET, _ONE_DIRECTION = 0.09, 0.6, 0.1, 0.5


def shown_alone(part_HWC: Pixels) -> str:
    """Which rule holds of a part of a picture; `` where none does."""
    edge = max(min(part_HWC.shape[:2]) // _EDGE, 1)
    inner_HWC = np.ascontiguousarray(part_HWC[edge:-edge, edge:-edge])
    if min(inner_HWC.shape[:2]) < _LEAST_JUDGED:
        return ""
    levels_HWC = inner_HWC.astype(np.float32)
    # Of the colours the one that varies most: a change of hue alone is none in grey.
    some = levels_HWC[::4, ::4].reshape(-1, 3)
    grey_HW = np.ascontiguousarray(levels_HWC[..., int(some.std(axis=0).argmax())])
    if not _is_lively(inner_HWC):
        if _is_one_colour(inner_HWC):
            return ONE_COLOUR
        if _is_surface(levels_HWC, grey_HW):
            return GRADIENT
    rough_HW = _furthest(levels_HWC - cv2.blur(levels_HWC, (3, 3)))[1:-1, 1:-1]
    if drawn := _drawn(rough_HW):
        return drawn
    if _has_plain_areas(inner_HWC):
        return PLAIN_AREAS
    if _is_noise(grey_HW):
        return NOISE
    if _repeats(grey_HW) or _is_turned(grey_HW, _share(rough_HW[::4, ::4], 0.75) <= _QUIET):
        return PATTERN
    return ""


def _furthest(away_HWC: NDArray[np.generic]) -> NDArray[np.float32]:
    """How far away each pixel is, in any channel."""
    off = np.abs(away_HWC)
    most = np.maximum(np.maximum(off[..., 0], off[..., 1]), off[..., 2])
    return np.asarray(most, dtype=np.float32)


def _share(values: NDArray[np.float32], share: float) -> float:
    """The value that so large a share of the values does not exceed."""
    flat = values.reshape(-1)
    at = int(share * (flat.size - 1))
    return float(np.partition(flat, at)[at])


def _is_lively(pixels_HWC: Pixels) -> bool:
    """Whether some rows change more than one colour or a gradient may; it spares most pictures."""
    rows_NWC = pixels_HWC[::16].astype(np.int16)
    bends_NWC = np.abs(rows_NWC[:, :-8] + rows_NWC[:, 8:] - 2 * rows_NWC[:, 4:-4])
    return float((bends_NWC > _LIVELY).mean()) > _LIVELY_SHARE


def _is_one_colour(pixels_HWC: Pixels) -> bool:
    median_C = np.median(pixels_HWC[::8, ::8].reshape(-1, 3), axis=0).round().astype(np.int16)
    return _share(_furthest(pixels_HWC[::2, ::2] - median_C), _NEARLY_ALL) <= _ONE_COLOUR


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


def _is_surface(levels_HWC: Grey, hue_HW: Grey) -> bool:
    """Whether one surface of second degree is nearly all that changes."""
    off_hue, spread = _off_surface(hue_HW)
    if off_hue > min(_HUE_OFF * spread, _OFF_MOST):
        off_grey, _ = _off_surface(cv2.cvtColor(levels_HWC, cv2.COLOR_RGB2GRAY))
        if off_grey > min(max(_GREY_OFF * spread, _OFF_LEAST), _OFF_MOST):
            return False  # most pictures: their pixels need no look
    some = np.s_[::2, ::2]
    surface_HWC = _powers(*hue_HW.shape)[some] @ _surface(_means(levels_HWC, _GRID))
    away = _furthest(levels_HWC[some] - surface_HWC)
    return _share(away, _NEARLY_ALL) <= _PIXELS_LEAST + _PIXELS_OFF * spread


def _off_surface(level_HW: Grey) -> tuple[float, float]:
    """How far most means are off the surface through them, and how much that changes."""
    means_HW = _means(level_HW, _GRID)[..., None]
    surface_HW = _powers(_GRID, _GRID) @ _surface(means_HW)
    return _share(np.abs(means_HW - surface_HW), _MOST), float(surface_HW.std())


def _drawn(rough_HW: Grey) -> str:
    """What a program drew, to the level: a gradient, or areas with thin steps between them."""
    if _share(rough_HW[::4, ::4], _LEAST_EXACT) > _EXACT:
        return ""  # most pictures
    step = max(_STEP, _share(rough_HW, 0.999) / 4)
    steps_HW = cv2.dilate((rough_HW > step).astype(np.uint8), np.ones((5, 5), np.uint8))
    thick = cv2.morphologyEx(steps_HW, cv2.MORPH_OPEN, np.ones((11, 11), np.uint8))
    if steps_HW.mean() > _STEPS or thick.mean() > _THICK:
        return ""
    # Where colours change, rounding is everywhere; a blank ground with a trace of something is not.
    away = rough_HW[steps_HW == 0]
    if _share(away, _DRAWN) > (_ROUNDED if _share(away, 0.5) > _ROUNDS else _EXACT):
        return ""
    return PLAIN_AREAS if steps_HW.any() else GRADIENT


def _has_plain_areas(pixels_HWC: Pixels) -> bool:
    """Whether so few rows and columns differ at all from the one before."""

    def changes(lines: Pixels) -> float:
        return float((lines[1:] != lines[:-1]).reshape(len(lines) - 1, -1).any(axis=1).mean())

    columns_WHC = pixels_HWC.swapaxes(0, 1)
    if changes(pixels_HWC[:, ::16]) * changes(columns_WHC[:, ::16]) >= _DIFFERENT:
        return False  # all of their pixels differ in more
    return changes(pixels_HWC) * changes(columns_WHC) < _DIFFERENT


def _is_noise(grey_HW: Grey) -> bool:
    """White noise, on a gradient or not; or noise of a coarser grain."""
    low, high = _share(grey_HW[::2, ::2], 0.005), _share(grey_HW[::2, ::2], 0.995)
    level_HW = _without_surface(np.clip(grey_HW, low, high) if high > low else grey_HW)
    if any(_is_coarse(level_HW, side) for side in (_GRID // 2, _GRID)):
        return False
    if _is_white(level_HW):
        return True
    return min(grey_HW.shape) >= _SMALL and _is_bell_shaped(level_HW)


def _is_coarse(level_HW: Grey, side: int) -> bool:
    """Whether means of squares go together, and vary by more than chance makes those of noise."""
    means_HW = _means(level_HW, side)
    by_chance = float(level_HW.std()) * side / min(level_HW.shape)
    return float(means_HW.std()) > 2 * by_chance and _neighbours_alike(means_HW) >= _UNLIKE_8


def _is_white(level_HW: Grey) -> bool:
    if _neighbours_alike(level_HW) >= (_UNLIKE if min(level_HW.shape) >= _SMALL else 0.5):
        return False
    for side, most in ((_GRID, _UNLIKE_16), (2 * _GRID, _UNLIKE_32)):
        if min(level_HW.shape) >= 2 * side and _neighbours_alike(_means(level_HW, side)) >= most:
            return False
    return _unevenness(level_HW, 8) < 0.3


def _is_bell_shaped(level_HW: Grey) -> bool:
    """Whether two octaves of it are spread as noise is, and alike in all sixteenths."""
    whole, octaves = float(level_HW.std()), []
    for _ in range(5):
        lower_HW = cv2.pyrDown(level_HW)
        octaves.append(level_HW - cv2.pyrUp(lower_HW, dstsize=level_HW.shape[::-1]))
        level_HW = lower_HW
    fine = float(octaves[0].std())
    if fine > 0.4 * whole and _kurtosis(octaves[0]) > 3.35:
        return False
    for first in (1, 2) if fine < _BLURRED * whole else (1,):
        this, following = octaves[first + 1], octaves[first + 2]
        peaks = (_kurtosis(octaves[first]), _kurtosis(this))
        if (
            min(peaks) > _BELL_LEAST
            and max(peaks) < _BELL
            and _unevenness(this, 4) < _ALIKE
            and _unevenness(following, 4) < _ALIKE_NEXT
        ):
            return True
    return False


def _kurtosis(values: Grey) -> float:
    centred = values - values.mean()
    power = float(np.square(centred).mean())
    return float(np.square(np.square(centred)).mean()) / (power**2 + 1e-9)


def _unevenness(level_HW: Grey, parts: int) -> float:
    """How much the deviations of parts × parts of it differ, relative to their mean."""
    height, width = (side // parts for side in level_HW.shape)
    apart = (
        level_HW[: parts * height, : parts * width]
        .reshape(parts, height, parts, width)
        .std(axis=(1, 3))
    )
    return float(apart.std() / (apart.mean() + 1e-9))


def _neighbours_alike(means_HW: Grey) -> float:
    """The larger of the correlations with the next in the row, and with the next in the column."""
    centred = means_HW - means_HW.mean()
    power = float(np.square(centred).mean()) + 1e-9
    row = float((centred[:, 1:] * centred[:, :-1]).mean())
    return max(row, float((centred[1:] * centred[:-1]).mean())) / power


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


def _is_turned(grey_HW: Grey, is_quiet: bool) -> bool:
    """Whether it is the same when turned by half a circle around any point.

    Or its negative. Of a photograph too a straight edge may be, so that its lines must have more
    than one direction, or all else must be quiet.
    """
    side = 96
    small_HW = _means(grey_HW, side) if min(grey_HW.shape) > side else grey_HW
    fine_HW = (small_HW - cv2.blur(small_HW, (9, 9)))[4:-4, 4:-4]
    if not is_quiet and _is_of_lines(fine_HW):
        return False
    height, width = fine_HW.shape
    twice = (2 * height, 2 * width)
    spectrum = np.fft.rfft2(fine_HW, twice)
    same = np.fft.irfft2(spectrum * spectrum, twice)
    same = np.abs(same)
    energy = np.zeros((height + 1, width + 1))
    energy[1:, 1:] = np.square(fine_HW).cumsum(0).cumsum(1)
    # Turned around s / 2, pixel i becomes s - i; from low to high both are in the picture.
    y, x = (np.arange(n // 2, 3 * n // 2) for n in (height, width))
    (top, bottom), (left, right) = (
        (np.maximum(0, at - n + 1), np.minimum(n, at + 1)) for at, n in ((y, height), (x, width))
    )
    met = (
        energy[np.ix_(bottom, right)]
        - energy[np.ix_(top, right)]
        - energy[np.ix_(bottom, left)]
        + energy[np.ix_(top, left)]
    )
    left_over = np.where(
        met > _MET * energy[-1, -1], (met - same[np.ix_(y, x)]) / (met + 1e-6), 1.0
    )
    return float(energy[-1, -1]) > 1e-3 * fine_HW.size and float(left_over.min()) < _TURNED


def _is_of_lines(fine_HW: Grey) -> bool:
    """Whether nearly all of its slopes have one direction."""
    down, right = cv2.Sobel(fine_HW, cv2.CV_32F, 0, 1), cv2.Sobel(fine_HW, cv2.CV_32F, 1, 0)
    yy, xx, xy = (float((a * b).mean()) for a, b in ((down, down), (right, right), (down, right)))
    return float(np.hypot(yy - xx, 2 * xy)) > _ONE_DIRECTION * (yy + xx)
