"""How a detector sees an image of any size: square views of its pixels, then normalised.

Shapes: K views of an image · H W · C channels. Pixels are never rescaled except by the view
`resize`: the high frequencies are the evidence.
"""

import math
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rayapp.dataset.images import MAX_PIXELS, ImageError
from rayapp.dataset.images import Box as PixelBox
from rayapp.models.adopted.processing import processed, seen_box
from rayapp.models.detector_spec import Preprocessing

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
_LONGEST = 32
_MOST_RESIZED = 1 << 26  # pixels that a processor may make of a long image before its crop


def preprocess(pixels_HWC: Pixels, preprocessing: Preprocessing) -> Tensor:
    """Normalised views float32 [K, C, size, size] of one RGB image uint8 [H, W, C]."""
    views_KHWC = cut_views(pixels_HWC, preprocessing)
    return normalise(torch.from_numpy(views_KHWC), preprocessing)


def normalise(views_KHWC: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Views uint8 [K, H, W, C] to float32 [K, C, H, W] as the network takes them.

    They lie in memory as channels last, which convolutions prefer.
    """
    # Copied without waiting: a GPU would else be idle until the step before is through.
    mean, std = (
        torch.tensor(values).to(views_KHWC.device, non_blocking=True)
        for values in (preprocessing.mean, preprocessing.std)
    )
    scaled_KHWC = views_KHWC.float().mul_(preprocessing.input_scale)
    return scaled_KHWC.sub_(mean).div_(std).permute(0, 3, 1, 2)


def cut_views(pixels_HWC: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Views uint8 [K, size, size, C]: K is 1, for `five` 5, for `tiles` what the image takes.

    A published processor's is one, which may be oblong, and float32 where that does not round.

    Raises:
        ImageError: the tiles would take more memory than any image may.
    """
    if preprocessing.processor:
        processor = preprocessing.processor
        if processor.shorter is not None and processor.longest is None:
            ratio = max(_LONGEST, _MOST_RESIZED // processor.shorter**2)
            pixels_HWC = _middle(pixels_HWC, ratio)
        return processed(pixels_HWC, processor)[None]
    size = preprocessing.size
    if preprocessing.view == "resize":
        side = max(preprocessing.resize_to or size, size)
        pixels_HWC = _shorter_side_to(_middle(pixels_HWC), side, preprocessing.filter)
    check_cut(pixels_HWC.shape[:2], preprocessing)
    corners = _corners(pixels_HWC.shape[:2], preprocessing)
    cut = (pixels_HWC[top : top + size, left : left + size] for top, left in corners)
    return np.stack([_pad_to(view_HWC, size) for view_HWC in cut])


def check_cut(size_HW: tuple[int, ...], preprocessing: Preprocessing) -> None:
    """Nothing where views of an image of that size fit into memory.

    Raises:
        ImageError: the tiles would take more than any image may.
    """
    if preprocessing.processor:
        return
    (height, width), size = size_HW, preprocessing.size
    num_views = 5 if preprocessing.view == "five" else 1
    if preprocessing.view == "tiles":
        num_views = math.prod(-(-max(side, size) // size) for side in size_HW)
    if num_views * size**2 > 3 * MAX_PIXELS // 2:  # a GB, with the image
        raise ImageError(f"{width}×{height} pixels: too narrow to be tiled by {size} px")


def seen_part(size_HW: tuple[int, int], preprocessing: Preprocessing) -> PixelBox:
    """The part of an image that views are cut from, in pixels: all of it but for a centre.

    `cut_views` of that part alone gives the same.
    """
    size, (height, width) = preprocessing.size, size_HW
    if preprocessing.processor or preprocessing.view != "centre":
        return 0, 0, height, width
    ((top, left),) = _corners(size_HW, preprocessing)
    return top, left, min(top + size, height), min(left + size, width)


def seen_boxes(size_HW: tuple[int, int], preprocessing: Preprocessing) -> list[Box]:
    """Which parts of an image its views show: top, left, bottom, right as shares of its sides."""
    if preprocessing.processor:
        return [seen_box(size_HW, preprocessing.processor)]
    size = preprocessing.size
    if preprocessing.view == "resize":
        side = max(preprocessing.resize_to or size, size)
        size_HW = _resized_HW(size_HW, side, preprocessing.filter)
    padded_HW = (max(size_HW[0], size), max(size_HW[1], size))
    above, before = ((whole - own) // 2 for whole, own in zip(padded_HW, size_HW, strict=True))
    boxes = []
    for top, left in _corners(padded_HW, preprocessing):
        y, x = top - above, left - before
        edges = zip((y, x, y + size, x + size), (*size_HW, *size_HW), strict=True)
        boxes.append(tuple(min(max(edge / side, 0.0), 1.0) for edge, side in edges))
    return cast(list[Box], boxes)


def tile_grid(size_HW: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Rows and columns of the tiles of an image, which `cut_views` gives row by row."""
    size = preprocessing.size
    rows, columns = (len(_starts(max(side - size, 0), size)) for side in size_HW)
    return rows, columns


def _corners(size_HW: tuple[int, int], preprocessing: Preprocessing) -> list[tuple[int, int]]:
    """Top and left of each view; of an image that is smaller, 0."""
    size = preprocessing.size
    bottom, right = (max(side - size, 0) for side in size_HW)
    if preprocessing.view == "tiles":
        return [(top, left) for top in _starts(bottom, size) for left in _starts(right, size)]
    corners = [(bottom // 2, right // 2)]
    if preprocessing.filter is not None:  # torchvision's centre, half a pixel rounded to even
        corners = [(round(bottom / 2), round(right / 2))]
    if preprocessing.view == "five":
        corners += [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    return corners


def _middle(pixels_HWC: Pixels, ratio: int = _LONGEST) -> Pixels:
    """The middle of an image that is longer than `ratio` times its shorter side; else itself.

    Of all else a crop of the centre holds nothing, and enlarged it would fill the memory.
    """
    most = ratio * min(pixels_HWC.shape[:2])
    # As much on either side: the pixels are those of the whole resized, where the scale is whole.
    top, left = (max(side - most, 0) // 2 for side in pixels_HWC.shape[:2])
    return pixels_HWC[top : len(pixels_HWC) - top, left : pixels_HWC.shape[1] - left]


def _starts(last: int, size: int) -> list[int]:
    """Evenly spread positions from 0 to `last`, as few as leave no gap between tiles."""
    num_steps = -(-last // size)
    return [round(step * last / max(num_steps, 1)) for step in range(num_steps + 1)]


def _pad_to(pixels_HWC: Pixels, size: int) -> Pixels:
    missing_y, missing_x = (max(size - side, 0) for side in pixels_HWC.shape[:2])
    if missing_y == missing_x == 0:
        return pixels_HWC
    top, left = missing_y // 2, missing_x // 2
    padded = cv2.copyMakeBorder(
        pixels_HWC, top, missing_y - top, left, missing_x - left, cv2.BORDER_REFLECT_101
    )
    return np.asarray(padded, dtype=np.uint8)


def _shorter_side_to(pixels_HWC: Pixels, side: int, filter: str | None) -> Pixels:
    height, width = pixels_HWC.shape[:2]
    new_height, new_width = _resized_HW((height, width), side, filter)
    if filter is not None:
        resampling = Image.Resampling[filter.upper()]
        return np.asarray(Image.fromarray(pixels_HWC).resize((new_width, new_height), resampling))
    # Averaging over areas does not alias when shrinking; it cannot enlarge.
    method = cv2.INTER_AREA if side < min(height, width) else cv2.INTER_LANCZOS4
    resized = cv2.resize(pixels_HWC, (new_width, new_height), interpolation=method)
    return np.asarray(resized, dtype=np.uint8)


def _resized_HW(size_HW: tuple[int, int], side: int, filter: str | None) -> tuple[int, int]:
    """Height and width once the shorter is `side`."""
    height, width = size_HW
    if filter is None:
        scale = side / min(height, width)
        return max(round(height * scale), side), max(round(width * scale), side)
    # As torchvision sizes it: the longer side rounded down.
    if width <= height:
        return int(side * height / width), side
    return side, int(side * width / height)
