"""What a metric returns: a value, or the reason why there is none; never NaN."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Measure:
    """One figure with its 95 % interval; a missing value or interval carries its reason."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Difference:
    """Figure of detector A minus that of B on the same items, with interval and p-value."""

    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    method: str
    num_groups: int
    reason: str = ""


def class_reason(num_real: int, num_synthetic: int) -> str:
    """Why a figure that compares both classes has no value; empty when both are there."""
    if num_real and num_synthetic:
        return ""
    return f"needs both classes: {num_real} real, {num_synthetic} synthetic"
