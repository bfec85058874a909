"""Calibration on images that were not drawn alike: weights for the fit, an even sample for counts.

An image that was drawn with a smaller chance stands for more. A map is fitted to weighted images.
What is counted, tested or promised (rates, the direction of the scores, the slope's interval) needs
images that were drawn alike: of each class an even sample is taken, in which an image stays with a
chance in proportion to its weight (von Neumann's rejection), so that each stands for equally many.

Shape suffix: N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rayapp.config.errors import UserError
from rayapp.transforms.draws import generator

LEAST_EACH = 25  # images of a class, by effective number
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """How much each item counts in a fit (on average 1), and which make the even sample."""

    weights_N: Floats
    even_N: NDArray[np.bool_]

    @classmethod
    def of(cls, stands_for_N: Floats, labels_N: NDArray[np.int64], ids_N: Sequence[str]) -> Self:
        """Of items that stand for so many images each.

        Raises:
            UserError: a class has too few items for what they stand for.
        """
        even_N = np.zeros(len(labels_N), np.bool_)
        for label, name in ((0, "real"), (1, "synthetic")):
            mine = labels_N == label
            if (num := effective_number(stands_for_N[mine])) < LEAST_EACH:
                raise UserError(
                    f"too few marks to calibrate on: {int(mine.sum()):,} {name}, which count as "
                    f"{num:.0f} drawn alike; {LEAST_EACH} are needed"
                )
            even_N[mine] = even_sample(
                stands_for_N[mine], [i for i, m in zip(ids_N, mine, strict=True) if m]
            )
        return cls(stands_for_N * len(stands_for_N) / stands_for_N.sum(), even_N)


def even_sample(stands_for_N: Floats, ids_N: Sequence[str]) -> NDArray[np.bool_]:
    """Which items stay, so that each that does stands for equally many; the draws are their own."""
    chance_N = np.array([generator(0, "even sample", one).random() for one in ids_N])
    return np.asarray(chance_N * stands_for_N.max() < stands_for_N)


def effective_number(weights_N: Floats) -> float:
    """How many items drawn alike tell as much (Kish 1965)."""
    return float(weights_N.sum() ** 2 / (weights_N**2).sum()) if len(weights_N) else 0.0
