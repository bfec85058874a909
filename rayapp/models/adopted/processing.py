"""A published processor's resizing and cropping, its arithmetic repeated to the bit.

Transformers resizes by torchvision on whole bytes, or by Pillow; its crop rounds down and fills
with black. It is our own here, so that a score does not depend on which version is installed.

Shapes: H W · C channels.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from torchvision.transforms.v2 import InterpolationMode

    from rayapp.models.detector_spec import Processor

Pixels = NDArray[Any]  # uint8; float32 where the processor does not round


def processed(pixels_HWC: Pixels, processor: Processor) -> Pixels:
    """The one view [H, W, C] that the processor makes of an RGB image uint8 [H, W, C]."""
    size_HW = resized_HW(pixels_HWC.shape[:2], processor)
    if size_HW is not None:
        pixels_HWC = _resized(pixels_HWC, size_HW, processor)
    if processor.crop:
        pixels_HWC = _cropped(pixels_HWC, processor.crop)
    return np.ascontiguousarray(pixels_HWC[..., ::-1]) if processor.bgr else pixels_HWC


def seen_box(size_HW: tuple[int, int], processor: Processor) -> tuple[float, float, float, float]:
    """Which part of an image it shows: top, left, bottom, right as shares of its sides."""
    height, width = resized_HW(size_HW, processor) or size_HW
    if processor.crop is None:
        return 0.0, 0.0, 1.0, 1.0
    high, wide = processor.crop
    top, left = max(height - high, 0) // 2, max(width - wide, 0) // 2
    bottom, right = min(top + high, height), min(left + wide, width)
    return top / height, left / width, bottom / height, right / width


def resized_HW(size_HW: tuple[int, ...], processor: Processor) -> tuple[int, int] | None:
    """Height and width after the resizing; None: there is none."""
    if processor.shorter is None:
        return processor.resized
    short, long = sorted(size_HW)
    side = float(processor.shorter)
    if processor.longest is not None and long / short * side > processor.longest:
        side = processor.longest * short / long
    new_short = max(round(side), 1)
    new_long = long if new_short == short else int(side * long / short)  # rounded down
    height, width = size_HW
    return (new_long, new_short) if width <= height else (new_short, new_long)


def _resized(pixels_HWC: Pixels, size_HW: tuple[int, int], processor: Processor) -> Pixels:
    if processor.kernel == "pillow":
        resampling = Image.Resampling[processor.filter.upper()]
        image = Image.fromarray(pixels_HWC).resize(size_HW[::-1], resampling)
        return np.asarray(image)
    from torchvision.transforms.v2 import functional

    image_CHW = torch.from_numpy(np.require(pixels_HWC, requirements=("C", "W"))).permute(2, 0, 1)
    if not processor.rounded:
        image_CHW = image_CHW.float()
    resized_CHW = functional.resize(
        image_CHW, list(size_HW), interpolation=_interpolation(processor.filter), antialias=True
    )
    return np.asarray(resized_CHW.permute(1, 2, 0).numpy())


@functools.cache
def _interpolation(name: str) -> InterpolationMode:
    from torchvision.transforms.v2 import InterpolationMode

    return InterpolationMode(name)


def _cropped(pixels_HWC: Pixels, crop_HW: tuple[int, int]) -> Pixels:
    missing = [max(want - have, 0) for want, have in zip(crop_HW, pixels_HWC.shape, strict=False)]
    if any(missing):
        before_after = [(one // 2, (one + 1) // 2) for one in missing]
        pixels_HWC = np.pad(pixels_HWC, [*before_after, (0, 0)])
    top, left = ((have - want) // 2 for want, have in zip(crop_HW, pixels_HWC.shape, strict=False))
    return pixels_HWC[top : top + crop_HW[0], left : left + crop_HW[1]]
