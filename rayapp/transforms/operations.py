"""Image operations: pure functions of uint8 RGB images, with the published protocol's semantics.

Shapes: H height, W width, C the three channels R, G, B. Nothing here draws at random: what was
drawn arrives as arguments, so that an operation with its arguments says all about its result.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

ImageHWC = NDArray[np.uint8]
SizeHW = tuple[int, int]

Filter = Literal["lanczos4", "area"]
Channels = Literal["rgb", "bgr"]
Axis = Literal["horizontal", "vertical", "both"]
Place = Literal["centre", "top_left", "top_right", "bottom_left", "bottom_right"]

_FILTERS = {"lanczos4": cv2.INTER_LANCZOS4, "area": cv2.INTER_AREA}
_FLIPS = {"horizontal": 1, "vertical": 0, "both": -1}
_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}
_MAX_SIDE = {".jpg": 65_500, ".webp": 16_383}  # what the two formats can hold


class Window(NamedTuple):
    """A rectangle of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def window_at(size_HW: SizeHW, side: int, place: Place) -> Window:
    """Where a square of `side` px lies at a named place; cut to the image where that is smaller.

    The centre of an odd remainder is up and left, as in the published protocol.
    """
    height, width = min(size_HW[0], side), min(size_HW[1], side)
    below, right = size_HW[0] - height, size_HW[1] - width
    if place == "centre":
        return Window(below // 2, right // 2, height, width)
    top = below if place.startswith("bottom") else 0
    left = right if place.endswith("right") else 0
    return Window(top, left, height, width)


def crop(image_HWC: ImageHWC, top: int, left: int, height: int, width: int) -> ImageHWC:
    """A rectangle of the image, [height, width, C], as a view of it (no copy).

    Raises:
        ValueError: the rectangle is empty or leaves the image.
    """
    bottom, right = top + height, left + width
    inside = 0 <= top < bottom <= image_HWC.shape[0] and 0 <= left < right <= image_HWC.shape[1]
    if not inside:
        raise ValueError(
            f"crop of {height}×{width} px at ({top}, {left}) leaves the image of "
            f"{image_HWC.shape[0]}×{image_HWC.shape[1]} px"
        )
    return image_HWC[top:bottom, left:right]


def pad(image_HWC: ImageHWC, height: int, width: int) -> ImageHWC:
    """Pad to at least height × width by mirroring about the edge pixels (reflect-101).

    The image stays in the centre; of an odd padding, top and left get the smaller half. An image
    smaller than its padding is mirrored as often as needed. Nothing is done to a large enough one.
    """
    below = max(height - image_HWC.shape[0], 0)
    right = max(width - image_HWC.shape[1], 0)
    if not (below or right):
        return image_HWC
    top, left = below // 2, right // 2
    padded_HWC: ImageHWC = cv2.copyMakeBorder(
        image_HWC, top, below - top, left, right - left, cv2.BORDER_REFLECT_101
    )
    return padded_HWC


def letterbox(image_HWC: ImageHWC, height: int, width: int, level: int) -> ImageHWC:
    """Bars of one grey level around the image, so that it is height × width at least.

    The image stays in the centre; of an odd remainder, top and left get the smaller half.
    """
    below = max(height - image_HWC.shape[0], 0)
    right = max(width - image_HWC.shape[1], 0)
    top, left = below // 2, right // 2
    boxed_HWC: ImageHWC = cv2.copyMakeBorder(
        image_HWC,
        top,
        below - top,
        left,
        right - left,
        cv2.BORDER_CONSTANT,
        value=(level, level, level),
    )
    return boxed_HWC


def resize(image_HWC: ImageHWC, height: int, width: int, filter: Filter) -> ImageHWC:
    """Resize to [height, width, C] with OpenCV's 8×8 Lanczos or its area filter.

    Lanczos4 does not widen its kernel when it shrinks an image, so it aliases; the published
    protocol uses it, and the aliasing is part of that protocol.
    """
    resized_HWC: ImageHWC = cv2.resize(image_HWC, (width, height), interpolation=_FILTERS[filter])
    return resized_HWC


def jpeg(image_HWC: ImageHWC, quality: int, channels: Channels) -> ImageHWC:
    """Compress as JPEG and decode again: OpenCV's encoder and decoder, 4:2:0 subsampling.

    Args:
        image_HWC: [H, W, C].
        quality: 1–100 (libjpeg's scale).
        channels: `rgb` is what any program writes. `bgr` hands the planes over in swapped order,
            so that the encoder takes red for blue: that is what the published pipeline did
            (albumentations 1.3.1 on RGB arrays) and what its images carry.

    Raises:
        ValueError: the image is larger than the format can hold.
    """
    return _recompress(image_HWC, ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality, channels)


def webp(image_HWC: ImageHWC, quality: int, channels: Channels) -> ImageHWC:
    """Compress as lossy WebP (libwebp's default effort, 4:2:0) and decode again.

    Arguments and errors are those of `jpeg`; quality 100 is lossy too.
    """
    return _recompress(image_HWC, ".webp", cv2.IMWRITE_WEBP_QUALITY, quality, channels)


def _recompress(
    image_HWC: ImageHWC, suffix: str, flag: int, quality: int, channels: Channels
) -> ImageHWC:
    if max(image_HWC.shape) > _MAX_SIDE[suffix]:
        raise ValueError(f"{suffix} holds at most {_MAX_SIDE[suffix]} px a side")
    as_rgb = channels == "rgb"
    planes_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR) if as_rgb else image_HWC
    _, data = cv2.imencode(suffix, planes_HWC, (flag, quality))
    decoded_HWC: ImageHWC | None = cv2.imdecode(
        data, cv2.IMREAD_COLOR_RGB if as_rgb else cv2.IMREAD_COLOR
    )
    assert decoded_HWC is not None  # it was encoded on the line above
    return decoded_HWC


def blur(image_HWC: ImageHWC, kernel: int) -> ImageHWC:
    """Gaussian blur with an odd kernel of `kernel` px, σ = 0.3·((kernel − 1)/2 − 1) + 0.8.

    The rule of OpenCV and albumentations; up to 7 px OpenCV's fixed binomial-like kernels stand
    for it. The border is mirrored (reflect-101).
    """
    blurred_HWC: ImageHWC = cv2.GaussianBlur(image_HWC, (kernel, kernel), 0)
    return blurred_HWC


def noise(image_HWC: ImageHWC, variance: float, seed: int) -> ImageHWC:
    """Add Gaussian noise of a variance in squared grey levels, apart for each pixel and channel.

    The field is a function of seed and shape. The sum is rounded to the nearest level (the
    published pipeline cut off the fraction, which darkens every image by half a level).
    """
    field_HWC = np.random.Generator(np.random.Philox(key=seed)).standard_normal(
        image_HWC.shape, dtype=np.float32
    )
    field_HWC *= np.float32(variance**0.5)
    noisy_HWC: ImageHWC = cv2.add(image_HWC, field_HWC, dtype=cv2.CV_8U)
    return noisy_HWC


def rotate90(image_HWC: ImageHWC, turns: int) -> ImageHWC:
    """Rotate counter-clockwise by 1, 2 or 3 quarter turns; 0 gives the image back."""
    if turns == 0:
        return image_HWC
    rotated_HWC: ImageHWC = cv2.rotate(image_HWC, _TURNS[turns])
    return rotated_HWC


def flip(image_HWC: ImageHWC, axis: Axis) -> ImageHWC:
    """Mirror left–right (`horizontal`), top–bottom (`vertical`) or both."""
    flipped_HWC: ImageHWC = cv2.flip(image_HWC, _FLIPS[axis])
    return flipped_HWC


def grayscale(image_HWC: ImageHWC) -> ImageHWC:
    """Luma (ITU-R BT.601) in all three channels."""
    gray_HWC: ImageHWC = cv2.cvtColor(
        cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB
    )
    return gray_HWC


OPERATIONS: dict[str, Callable[..., ImageHWC]] = {
    operation.__name__: operation
    for operation in (
        crop,
        pad,
        letterbox,
        resize,
        jpeg,
        webp,
        blur,
        noise,
        rotate90,
        flip,
        grayscale,
    )
}
