"""What a scorer keeps and gives of an image, as far as it is more than pixels and numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Logits = tuple[float, ...]  # one, or one a class
Pixels = NDArray[np.uint8]
Matrix = list[list[float]]  # rows of cells over a picture


@dataclass(frozen=True)
class Scored:
    """What is known of an image once it is scored.

    Args:
        logits: see `Logits`.
        reason: why there is no verdict, though the logits stand; `` where there is one.
        parts: log-odds of a fusion's parts, in its order.
        cells: logits of its tiles [K] or patches [rows, columns], where they are kept.
    """

    logits: Logits
    reason: str = ""
    parts: tuple[float, ...] = ()
    cells: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class SeenByEach:
    """What each part of a fusion keeps of one image."""

    views: tuple[Pixels, ...]

    def __len__(self) -> int:
        """Views of the part that has most."""
        return max(map(len, self.views))

    def __getitem__(self, some: slice) -> SeenByEach:
        """Some of each part's views."""
        return SeenByEach(tuple(views[some] for views in self.views))
