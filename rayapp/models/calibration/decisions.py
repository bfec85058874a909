"""Decisions from calibrated probabilities, chosen on calibration data only: threshold and band."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rayapp.config.errors import UserError

MIN_PER_CLASS_FOR_BAND = 50


def threshold_at_fpr(probabilities_N: ArrayLike, labels_N: ArrayLike, fpr: float) -> float:
    """Smallest threshold that calls at most a share `fpr` of the calibration reals synthetic.

    It lies just above the first real that must not be flagged, so ties are all let through.

    Raises:
        UserError: fewer than 1 / `fpr` reals, where the rate cannot be observed.
    """
    values, labels = np.asarray(probabilities_N, dtype=np.float64), np.asarray(labels_N)
    real = np.sort(values[labels == 0])[::-1]
    if len(real) * fpr < 1:
        needed = int(np.ceil(1 / fpr))
        raise UserError(
            f"a threshold at a false-positive rate of {fpr:g} needs at least {needed} real "
            f"calibration items, got {len(real)}"
        )
    allowed = int(np.sum(np.arange(1, len(real) + 1) / len(real) <= fpr))
    return float(np.nextafter(real[allowed], np.inf)) if allowed < len(real) else 0.0


def abstain_band(
    probabilities_N: ArrayLike, labels_N: ArrayLike, threshold: float = 0.5, error: float = 0.05
) -> tuple[float, float] | None:
    """Band low <= p < high to leave undecided, so that either answer is rarely wrong.

    `low` is the largest probability up to the threshold such that among the calibration items
    with p < low at most a share `error` is synthetic; `high` the smallest from the threshold on
    such that among those with p >= high at most `error` is real. A side that never gets there is
    undecided to its end (0, or just above the highest p). None below 50 items of either class.
    """
    values, labels = np.asarray(probabilities_N, dtype=np.float64), np.asarray(labels_N)
    num_synthetic = int((labels == 1).sum())
    if min(num_synthetic, len(labels) - num_synthetic) < MIN_PER_CLASS_FOR_BAND:
        return None
    edges = np.unique(np.append(values, threshold))
    wrong_below = _shares(values, labels == 1, edges)
    low = edges[(edges <= threshold) & (wrong_below <= error)].max(initial=0.0)
    wrong_above = _shares(-values, labels == 0, -edges[::-1], side="right")[::-1]
    past_end = float(np.nextafter(max(edges[-1], threshold), np.inf))
    high = edges[(edges >= threshold) & (wrong_above <= error)].min(initial=past_end)
    return float(low), float(high)


def _shares(
    values_N: NDArray[np.float64],
    wrong_N: NDArray[np.bool_],
    edges_T: NDArray[np.float64],
    side: str = "left",
) -> NDArray[np.float64]:
    """Share of wrong items among those below each edge (`right`: or at it); 0 where none is."""
    order = np.argsort(values_N, kind="stable")
    wrong = np.append(0, np.cumsum(wrong_N[order]))
    number = np.searchsorted(values_N[order], edges_T, side="right" if side == "right" else "left")
    return np.asarray(wrong[number] / np.maximum(number, 1))
