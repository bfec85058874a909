"""Images in whatever form they are given to a detector in Python, as pixels by one policy.

Shapes: H W · C channels.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rayapp.config.errors import UserError
from rayapp.dataset.images import ImageError, Pixels, decode, decode_array, decode_opened

ImageInput = str | Path | bytes | Image.Image | Pixels


def listed(images: Iterable[ImageInput]) -> list[ImageInput]:
    """The images as a list.

    Raises:
        UserError: a single one.
    """
    if isinstance(images, (str, bytes, Path, Image.Image)):
        raise UserError("give a list of images, even for one")
    return list(images)


def decoded(
    images: Sequence[ImageInput],
    check: Callable[[tuple[int, ...]], None],
    start: int,
    unread: dict[int, str] | None,
) -> Iterator[Pixels]:
    """RGB uint8 [H, W, 3] of the images that can be read.

    Args:
        images: as they are given.
        check: of height and width; raises ImageError where an image can't be seen.
        start: the place of the first.
        unread: is told of others why they can't, by their place.

    Raises:
        UserError: an image can't be read, and nobody is told.
    """
    for index, image in enumerate(images, start):
        try:
            pixels_HWC = pixels_of(image)
            check(pixels_HWC.shape[:2])
        except (UserError, ImageError) as error:
            if unread is None:
                raise UserError(f"{_name(image, index)}: {error}") from None
            unread[index] = str(error)
        else:
            yield pixels_HWC


def pixels_of(image: ImageInput) -> Pixels:
    """RGB uint8 [H, W, 3] of one image, by one policy whatever it comes as.

    Raises:
        UserError: it can't be read, or is no image.
    """
    if isinstance(image, (str, Path)):
        try:
            image = Path(image).read_bytes()
        except OSError as error:
            raise UserError(error.strerror or str(error)) from None
    try:
        if isinstance(image, bytes):
            return decode(image).pixels_HWC
        if isinstance(image, Image.Image):
            return decode_opened(image).pixels_HWC
        if isinstance(image, np.ndarray):
            return decode_array(image)
    except ImageError as error:
        raise UserError(str(error)) from None
    raise UserError(f"a path, bytes, PIL image or array, not {type(image).__name__}")


def _name(image: ImageInput, index: int) -> str:
    return f"image {index} ({image})" if isinstance(image, (str, Path)) else f"image {index}"
