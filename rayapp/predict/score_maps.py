"""Maps that are kept beside scores: the logits of a picture's tiles or patches, row by row.

A map has at most `MOST_CELLS` rows and columns; of a larger one neighbours are averaged. Shapes:
K views, the tiles of a picture · G grid: rows × columns of cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from rayapp.models.preprocessing import seen_boxes, tile_grid
from rayapp.pages.review import HeatMap
from rayapp.predict.score_result import Matrix

if TYPE_CHECKING:
    from rayapp.models.detector_spec import Preprocessing
    from rayapp.models.verdicts import Judge

MOST_CELLS = 48


def tile_map(
    logits_K: np.ndarray, size_HW: tuple[int, int], preprocessing: Preprocessing
) -> Matrix | None:
    """The map of a picture that was seen by `tiles`; None where one tile is all of it."""
    rows, columns = tile_grid(size_HW, preprocessing)
    return bounded(logits_K.reshape(rows, columns)) if len(logits_K) > 1 else None


def bounded(logits_G: np.ndarray) -> Matrix:
    """Rows of cells, each side at most `MOST_CELLS`."""
    for axis in (0, 1):
        count = logits_G.shape[axis]
        if count > MOST_CELLS:
            starts = np.arange(MOST_CELLS) * count // MOST_CELLS
            lengths = np.diff(np.append(starts, count))
            summed = np.add.reduceat(logits_G, starts, axis=axis, dtype=np.float64)
            logits_G = summed / (lengths[:, None] if axis == 0 else lengths)
    found: Matrix = np.asarray(logits_G, dtype=np.float32).tolist()
    return found


def heat_map(
    cells: Sequence[Sequence[float]], judge: Judge, size_HW: tuple[int, int], view: Preprocessing
) -> HeatMap:
    """A kept map as the gallery draws it, over what of a picture of that size was seen.

    Its probabilities are the calibration's, which was fitted to whole pictures: of parts they
    order, and promise nothing.
    """
    logits = np.asarray(cells, dtype=np.float64)
    flat = logits.ravel()
    p = judge.calibration.apply(flat) if judge.calibration else special.expit(flat)
    box = (0.0, 0.0, 1.0, 1.0)
    if view.view != "tiles":
        top, left, bottom, right = seen_boxes(size_HW, view)[0]
        box = (left, top, right - left, bottom - top)
    rows, columns = logits.shape
    return HeatMap(rows, columns, np.asarray(p).tolist(), box)
