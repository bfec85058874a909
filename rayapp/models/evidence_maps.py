"""Where in a picture a detector sees what: logits of overlapping parts, or of a ViT's patches.

Shapes: H W C of an image · K windows · G grid: rows × columns of cells over the whole picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from rayapp.config.errors import UserError
from rayapp.models.encoder import Network
from rayapp.models.inference.linear_layers import inference
from rayapp.models.inference.precision import device_of
from rayapp.models.preprocessing import cut_views, normalise

if TYPE_CHECKING:
    from rayapp.models.detector import Detector
    from rayapp.models.preprocessing import Pixels

Floats = NDArray[np.float32]
_MOST_CELLS = 48  # along the longer side
_OVERLAP = 2  # windows start every half of their side
_MOST_WINDOWS = 400


@dataclass(frozen=True)
class EvidenceMap:
    """Logits of the parts of a picture, on a grid over all of it.

    `logits_G` float32 [rows, columns]; `by` says what a cell's logit is of: `windows` that cover
    it, or `patches`. A map of one cell says that the detector sees the picture only as a whole.
    """

    logits_G: Floats
    by: str

    def probabilities(self, detector: Detector) -> Floats:
        """The same as probabilities, by the detector's calibration.

        That was fitted to whole views: of parts it orders, and promises nothing.
        """
        logits = self.logits_G.astype(np.float64).ravel()
        if detector.spec.calibration:
            p = detector.spec.calibration.apply(logits)
        else:
            p = 1 / (1 + np.exp(-logits))
        return np.asarray(p, dtype=np.float32).reshape(self.logits_G.shape)


def evidence_map(detector: Detector, pixels_HWC: Pixels, *, batch_size: int = 16) -> EvidenceMap:
    """The map of one RGB image uint8 [H, W, 3].

    A detector that looks at pixels (views centre, five, tiles) is shown windows of its own size;
    one that looks at the whole picture (resize, or a published processor) windows of half the
    shorter side. Each cell has the mean over the windows that cover it, weighted by how near
    their middle it lies. With a head on patches each window gives a logit a patch instead.

    Raises:
        UserError: a detector of several classes.
    """
    if detector.spec.architecture.head.num_outputs > 1:
        raise UserError("a map is of one logit: this detector has one a class")
    parts = detector.parts
    if parts:
        assert detector.spec.fusion is not None
        maps = [evidence_map(part, pixels_HWC, batch_size=batch_size) for part in parts]
        seen_whole = all(one.logits_G.size == 1 for one in maps)
        rows, columns = (1, 1) if seen_whole else _cells(pixels_HWC.shape[:2])
        logits_NP = np.stack([_spread(one.logits_G, (rows, columns)).ravel() for one in maps], 1)
        fused = detector.spec.fusion.fused(logits_NP).astype(np.float32)
        return EvidenceMap(fused.reshape(rows, columns), "+".join(sorted({m.by for m in maps})))
    side, on_patches = _window_side(detector, pixels_HWC), _has_patches(detector)
    corners = _corners((pixels_HWC.shape[0], pixels_HWC.shape[1]), side)
    logits_KHW = _window_logits(detector, pixels_HWC, corners, side, on_patches, batch_size)
    if len(corners) == 1 and not on_patches:
        return EvidenceMap(logits_KHW[0], "windows")
    cells = _cells(pixels_HWC.shape[:2])
    gathered = _gathered(logits_KHW, corners, side, pixels_HWC.shape[:2], cells)
    return EvidenceMap(gathered, "patches" if on_patches else "windows")


def _has_patches(detector: Detector) -> bool:
    pool = detector.network.pool if isinstance(detector.network, Network) else None
    return pool is not None and pool.kind != "cls"


def _window_side(detector: Detector, pixels_HWC: Pixels) -> int:
    """Side of a window in the picture's own pixels."""
    seen, shorter = detector.spec.preprocessing, int(min(pixels_HWC.shape[:2]))
    if seen.processor or seen.view == "resize":
        return max(shorter // 2, min(shorter, 32))
    return min(seen.size, shorter)


def _corners(size_HW: tuple[int, int], side: int) -> list[tuple[int, int]]:
    """Top and left of windows that cover the picture, evenly spread, at most so many."""
    step = max(side // _OVERLAP, 1)
    while True:
        counts = [-(-max(whole - side, 0) // step) + 1 for whole in size_HW]
        if counts[0] * counts[1] <= _MOST_WINDOWS:
            break
        step = step * 5 // 4 + 1
    tops, lefts = (
        np.linspace(0, max(whole - side, 0), count).round().astype(int)
        for whole, count in zip(size_HW, counts, strict=True)
    )
    return [(int(top), int(left)) for top in tops for left in lefts]


def _window_logits(
    detector: Detector,
    pixels_HWC: Pixels,
    corners: list[tuple[int, int]],
    side: int,
    on_patches: bool,
    batch_size: int,
) -> Floats:
    """Logits float32 [K, h, w] of each window: h = w = 1, or those of its patches."""
    seen = detector.spec.preprocessing
    if not seen.processor and seen.view != "resize":
        seen = seen.seen_as("centre", seen.size)
    device, found = device_of(detector.network), []
    with inference(detector.network.eval()) as network:
        score: Any = network.patch_logits if on_patches else network
        for at in range(0, len(corners), batch_size):
            views = [
                cut_views(pixels_HWC[top : top + side, left : left + side], seen)
                for top, left in corners[at : at + batch_size]
            ]
            images = normalise(torch.from_numpy(np.concatenate(views)), seen)
            logits = score(images.to(device)).float().cpu()
            found.append(logits if on_patches else logits.reshape(-1, 1, 1))
    return np.asarray(torch.cat(found).numpy(), dtype=np.float32)


def _cells(size_HW: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of square cells over a picture."""
    cell = max(size_HW[0], size_HW[1]) / _MOST_CELLS
    rows, columns = (max(1, round(side / cell)) for side in size_HW[:2])
    return rows, columns


def _gathered(
    logits_KHW: Floats,
    corners: list[tuple[int, int]],
    side: int,
    size_HW: tuple[int, ...],
    cells: tuple[int, int],
) -> Floats:
    """Of each cell the weighted mean over the windows that hold its middle.

    Where there are too many windows for that, each stands for its surroundings too.
    """
    starts = [np.unique(axis) for axis in zip(*corners, strict=True)]
    reach = [max(side, *np.diff(axis), 0) if len(axis) > 1 else side for axis in starts]
    total, weight = np.zeros(cells), np.zeros(cells)
    middles = [
        (np.arange(count) + 0.5) * whole / count
        for count, whole in zip(cells, size_HW[:2], strict=True)
    ]
    for logits_HW, corner in zip(logits_KHW, corners, strict=True):
        at, near = [], []
        for middle, start, wide, parts in zip(middles, corner, reach, logits_HW.shape, strict=True):
            within = (middle - start - (side - wide) / 2) / wide
            inside = np.flatnonzero((within >= 0) & (within <= 1))
            at.append((inside, np.minimum((within[inside] * parts).astype(int), parts - 1)))
            near.append(
                1.02 - np.abs(2 * within[inside] - 1)
            )  # 1 in the middle, little at the edge
        (rows, from_rows), (columns, from_columns) = at
        weights = np.outer(*near)
        total[np.ix_(rows, columns)] += weights * logits_HW[np.ix_(from_rows, from_columns)]
        weight[np.ix_(rows, columns)] += weights
    return np.asarray(total / np.maximum(weight, 1e-9), dtype=np.float32)


def _spread(logits_G: Floats, cells: tuple[int, int]) -> Floats:
    """A map on another grid, by the nearest cell."""
    rows, columns = (
        (np.arange(wanted) * had // wanted)
        for wanted, had in zip(cells, logits_G.shape, strict=True)
    )
    return np.asarray(logits_G[np.ix_(rows, columns)])
