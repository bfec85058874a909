"""Operations with two images in and one out: an image, and another of its size to mix it with.

Shapes: H W · C channels red, green, blue. Nothing here draws at random.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rayapp.transforms.operations import ImageHWC

Floats = NDArray[np.float32]


def blend(image_HWC: ImageHWC, other_HWC: ImageHWC, share: float) -> ImageHWC:
    """`share` of the image and the rest of the other, pixel by pixel.

    Raises:
        ValueError: the two differ in size.
    """
    difference_HWC = _difference(image_HWC, other_HWC)
    return _rounded(other_HWC + np.float32(share) * difference_HWC)


def blend_band(
    image_HWC: ImageHWC, other_HWC: ImageHWC, low: float, high: float, share: float
) -> ImageHWC:
    """`share` of the image in a band of spatial frequencies, and else the other.

    Args:
        image_HWC: [H, W, C].
        other_HWC: of the same size.
        low: where the band begins, in cycles a pixel; 0 with the mean.
        high: where it ends; the highest along an axis is 0.5, along the diagonal 0.71.
        share: of the image in the band, 0…1.

    Raises:
        ValueError: the two differ in size, or the band is empty.
    """
    if not 0 <= low < high:
        raise ValueError(f"a band of frequencies from {low} to {high} is empty")
    difference_HWC = _difference(image_HWC, other_HWC)
    height, width = image_HWC.shape[:2]
    vertical = np.fft.fftfreq(height)[:, None]
    radius_HW = np.hypot(vertical, np.fft.rfftfreq(width)[None])
    inside_HW = (low <= radius_HW) & (radius_HW < high)
    spectrum = np.fft.rfft2(difference_HWC, axes=(0, 1)) * (share * inside_HW[:, :, None])
    return _rounded(other_HWC + np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1)))


def _difference(image_HWC: ImageHWC, other_HWC: ImageHWC) -> Floats:
    if image_HWC.shape != other_HWC.shape:
        raise ValueError(f"images of {image_HWC.shape} and {other_HWC.shape} can't be mixed")
    return image_HWC.astype(np.float32) - other_HWC


def _rounded(values: NDArray[np.float32] | NDArray[np.float64]) -> ImageHWC:
    levels: ImageHWC = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


PAIR_OPERATIONS: dict[str, Callable[..., ImageHWC]] = {
    operation.__name__: operation for operation in (blend, blend_band)
}
