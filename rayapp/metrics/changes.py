"""Images on which two detectors do not agree: those that change sides from one to the other."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rayapp.config.settings import Settings


class Changes(Settings):
    """How many test images two detectors call differently, and where they are listed."""

    suite: str = Field(description="name of the suite")
    first: str = Field(description="name of a detector")
    second: str = Field(description="name of another")
    num_images: int = Field(description="images that both scored")
    first_right: int = Field(description="images that only the first calls what they are")
    second_right: int = Field(description="images that only the second does")
    file: str = Field(description="CSV file of these images, beside this one")


def changed_sides(
    first_N: NDArray[np.float64], second_N: NDArray[np.float64], thresholds: tuple[float, float]
) -> NDArray[np.int64]:
    """Rows that two detectors call differently, those whose probability moves most first."""
    differ = (first_N >= thresholds[0]) != (second_N >= thresholds[1])
    order = np.argsort(-np.abs(first_N - second_N), kind="stable")
    return np.asarray(order[differ[order]], dtype=np.int64)
