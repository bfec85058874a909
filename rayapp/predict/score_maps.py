"""Maps that are kept beside scores: the logits of a picture's tiles or patches, row by row.

A map has at most `MOST_CELLS` rows and columns; of a larger one neighbours are averaged. Shapes:
K views, the tiles of a picture · G grid: rows × columns of cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from rayapp.models.encoder import Network
from rayapp.models.preprocessing import seen_boxes, tile_grid
from rayapp.pages.review import HeatMap
from rayapp.predict.score_result import Matrix

if TYPE_CHECKING:
    from rayapp.models.detector import Detector
    from rayapp.models.detector_spec import Preprocessing
    from rayapp.models.verdicts import Judge

MOST_CELLS = 48


def says_patches(detector: Detector) -> bool:
    """Whether its head is on the patches of its one view, so that each has a logit."""
    pool = detector.network.pool if isinstance(detector.network, Network) else None
    several = detector.spec.preprocessing.view in ("five", "tiles")
    return pool is not None and pool.kind != "cls" and not several


def no_fused_map(parts: Sequence[Detector], of_patches: bool) -> str:
    """Why a fusion of these keeps no map, in words; `` where all of them have one on one grid.

    Args:
        parts: the detectors that are fused.
        of_patches: whether maps of patches are kept, as they are of tiles.
    """
    tiles = [one.spec.preprocessing.sees_tiles for one in parts]
    patches = [of_patches and says_patches(one) for one in parts]
    if not (all(tiles) or all(patches)):
        return "not every detector of the fusion has a map"
    # A tile gives one logit, a view as many as the strides of its patches leave.
    strides = [{} if all(tiles) else one.spec.strides for one in parts]
    grids = {
        (one.spec.preprocessing.as_cut, str(sorted(steps.items())))
        for one, steps in zip(parts, strides, strict=True)
    }
    return "" if len(grids) == 1 else "the maps of the fusion's detectors are on different grids"


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
