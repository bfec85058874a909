"""How a partner is made to look as if its file had the history of the real one's.

What is compressed is what the file stored, before a viewer turns it: a partner is turned back for
it, and then as the real is.
"""

from dataclasses import dataclass

from PIL import Image

from rayapp.dataset.containers import FEW_COLOURS, is_lossless
from rayapp.dataset.images import open_image
from rayapp.dataset.pixels import has_srgb_colours, orientation_of
from rayapp.transforms.jpeg_layouts import JpegLayout, read_jpeg_layout
from rayapp.transforms.operations import SizeHW
from rayapp.transforms.plans import Step

_GRID: SizeHW = (16, 16)  # of files that are no JPEG, but may have been one, or are lossy WebP
_TOLD = ("TIFF", "WEBP")  # whose files say whether they lose something


def _turn(turns: int) -> Step:
    return Step.of("rotate90", turns=turns)


def _flip(axis: str) -> Step:
    return Step.of("flip", axis=axis)


# EXIF orientation → steps from what is seen to what is stored, and back.
_TO_STORED = {
    1: (),
    2: (_flip("horizontal"),),
    3: (_turn(2),),
    4: (_flip("vertical"),),
    5: (_turn(1), _flip("vertical")),
    6: (_turn(1),),
    7: (_turn(1), _flip("horizontal")),
    8: (_turn(3),),
}
_TO_SEEN = {**_TO_STORED, 6: (_turn(3),), 8: (_turn(1),)}


@dataclass(frozen=True)
class FileHistory:
    """What a real file's compression was, and how its pixels are turned to be seen."""

    layout: JpegLayout | None
    orientation: int
    description: str  # in words: what the partner gets of it
    can_be_given: bool  # to a partner: else the compression would tell the two apart

    @property
    def unit_HW(self) -> SizeHW:
        """The grid on which it was compressed, in px, as stored."""
        return self.layout.unit_HW if self.layout else _GRID

    @property
    def to_stored(self) -> tuple[Step, ...]:
        """From the pixels that are seen to those that were stored."""
        return _TO_STORED[self.orientation]

    @property
    def to_seen(self) -> tuple[Step, ...]:
        """The way back."""
        return _TO_SEEN[self.orientation]

    @property
    def recompression(self) -> tuple[Step, ...]:
        """What gives the partner, as it was seen, the real's compression."""
        if self.layout is None:
            return ()
        step = Step.of("jpeg_as", layout=self.layout.to_text())
        return (*self.to_stored, step, *self.to_seen)


def read_history(data: bytes) -> FileHistory:
    """The history of an image file, of any kind that decodes.

    Raises:
        ImageError: it is no image.
    """
    image = open_image(data)
    layout = read_jpeg_layout(image)
    if layout is None:
        is_plain = is_lossless(image, data)
        return FileHistory(None, 1, _describe_other(image, is_plain), is_plain)
    orientation = orientation_of(image)
    return FileHistory(layout, orientation, _describe(image, layout, orientation), True)


def _describe_other(image: Image.Image, is_plain: bool) -> str:
    """A file that is no JPEG, or one of a kind that can't be written again."""
    if is_plain:
        return str(image.format)
    if image.mode in FEW_COLOURS:
        return f"{image.format} of few colours"
    if image.format in ("JPEG", "MPO"):
        return f"JPEG of {image.mode}"
    return f"{image.format}, {'lossy' if image.format in _TOLD else 'of unknown compression'}"


def _describe(image: Image.Image, layout: JpegLayout, orientation: int) -> str:
    words = [f"JPEG {layout.subsampling}"]
    if image.info.get("progressive"):
        words.append("progressive")  # which changes no pixel
    if orientation != 1:
        words.append(f"turned back from EXIF orientation {orientation}")
    if not has_srgb_colours(image):
        words.append("compressed as sRGB, not in its own colours")
    return ", ".join(words)
