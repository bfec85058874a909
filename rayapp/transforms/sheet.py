"""Contact sheets: images side by side, to look at."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rayapp.transforms.operations import ImageHWC

_GAP, _LINE = 8, 16  # px
_INK, _PAPER = "#202020", "#ffffff"


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[tuple[str, ImageHWC]]]], cell: int = 192
) -> Image.Image:
    """One row of captioned images per item, under the item's title.

    Args:
        rows: (title, [(caption, uint8 RGB image), …]) an item; rows may differ in length.
        cell: side in px of the square that each image is fitted into; a smaller image is shown
            as it is, so that its pixels can be judged.
    """
    font = ImageFont.load_default(size=12)
    columns = max((len(images) for _, images in rows), default=0)
    pitch_x, pitch_y = cell + _GAP, 2 * _LINE + cell + _GAP
    sheet = Image.new("RGB", (_GAP + max(columns, 1) * pitch_x, _GAP + len(rows) * pitch_y), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, (title, images) in enumerate(rows):
        top = _GAP + row * pitch_y
        pen.text((_GAP, top), _fitted(pen, title, sheet.width - 2 * _GAP, font), _INK, font)
        for column, (caption, image_HWC) in enumerate(images):
            left = _GAP + column * pitch_x
            pen.text((left, top + _LINE), _fitted(pen, caption, cell, font), _INK, font)
            thumbnail = Image.fromarray(np.ascontiguousarray(image_HWC))
            thumbnail.thumbnail((cell, cell), Image.Resampling.LANCZOS)
            sheet.paste(thumbnail, (left, top + 2 * _LINE))
    return sheet


def _fitted(
    pen: ImageDraw.ImageDraw,
    text: str,
    width: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> str:
    """The text, or its end behind an ellipsis: the end of a path tells more than its beginning."""
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength("…" + text, font) > width:
        text = text[1:]
    return "…" + text
