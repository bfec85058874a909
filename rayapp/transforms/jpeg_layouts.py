"""How a JPEG file was compressed, apart from its pixels, and other pixels compressed likewise.

What a decoder gives of a JPEG hangs on its quantisation tables, on how its planes are subsampled
and on the colours they hold; how the coefficients are coded (progressive, optimised, restarts)
changes no pixel. A plane that no encoder at hand subsamples so is compressed by itself, as grey.

Shapes: H W · C channels red, green, blue, or planes Y, Cb, Cr.
"""

import io
import math
from dataclasses import dataclass
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rayapp.transforms.operations import ImageHWC, SizeHW

Colours = Literal["ycc", "rgb", "grey"]
Table = tuple[int, ...]
_MOST_PX = 65_500  # of a side, what the format holds
_SUBSAMPLING = {(1, 1): 0, (1, 2): 1, (2, 2): 2}  # Pillow's numbers, by how chroma is shrunk
_NAMES = {
    (1, 1): "4:4:4", (1, 2): "4:2:2", (2, 2): "4:2:0", (2, 1): "4:4:0", (1, 4): "4:1:1",
    (2, 4): "4:1:0",
}  # fmt: skip
_RGB_IDS = (82, 71, 66)  # "R", "G", "B"


@dataclass(frozen=True)
class JpegLayout:
    """What of a JPEG's compression shows in its pixels.

    `tables`: a plane's 64 quantisation steps, row by row. `shrunk`: by how much a plane is smaller,
    (height, width), against the largest one.
    """

    colours: Colours
    tables: tuple[Table, ...]
    shrunk: tuple[SizeHW, ...]

    @property
    def unit_HW(self) -> SizeHW:
        """Height and width in px of what is coded together, on whose grid the file lies."""
        return 8 * max(v for v, _ in self.shrunk), 8 * max(h for _, h in self.shrunk)

    @property
    def subsampling(self) -> str:
        """`4:2:0` and the like; `grey` of one plane, `RGB 4:4:4` where planes are no luma."""
        if self.colours == "grey":
            return "grey"
        luma, *chroma = self.shrunk
        plain = luma == (1, 1) and len(set(chroma)) == 1
        name = _NAMES.get(chroma[0]) if plain else None
        name = name or " ".join(f"{v}×{h}" for v, h in self.shrunk)
        return f"RGB {name}" if self.colours == "rgb" else name

    def to_text(self) -> str:
        """One word, as a plan holds it."""
        tables = ",".join("".join(f"{step:04x}" for step in table) for table in self.tables)
        return f"{self.colours};{','.join(f'{v}x{h}' for v, h in self.shrunk)};{tables}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The layout that `to_text` wrote.

        Raises:
            ValueError: it did not.
        """
        colours, shrunk, tables = text.split(";")
        if colours not in ("ycc", "rgb", "grey"):
            raise ValueError(f"{colours!r} are no colours of a JPEG")
        pairs = [tuple(int(part) for part in one.split("x")) for one in shrunk.split(",")]
        steps = [
            [int(one[at : at + 4], 16) for at in range(0, 256, 4)] for one in tables.split(",")
        ]
        return cls(
            colours,  # type: ignore[arg-type]
            tuple(tuple(one) for one in steps),
            tuple((v, h) for v, h in pairs),
        )


def read_jpeg_layout(image: Image.Image) -> JpegLayout | None:
    """The layout of an opened JPEG; None of other files, and of inks (CMYK).

    Args:
        image: as Pillow opened it; its pixels are not read.
    """
    planes = getattr(image, "layer", None)
    if image.format not in ("JPEG", "MPO") or not planes or len(planes) not in (1, 3):
        return None
    tables = getattr(image, "quantization", {})
    if any(plane[3] not in tables for plane in planes):
        return None
    if len(planes) == 1:
        return JpegLayout("grey", (tuple(tables[planes[0][3]]),), ((1, 1),))
    most_h, most_v = (max(plane[at] for plane in planes) for at in (1, 2))
    if any(most_h % plane[1] or most_v % plane[2] for plane in planes):
        return None  # sampled by fractions, which no decoder takes
    shrunk = tuple((most_v // plane[2], most_h // plane[1]) for plane in planes)
    chosen = tuple(tuple(tables[plane[3]]) for plane in planes)
    return JpegLayout("rgb" if _holds_rgb(image, planes) else "ycc", chosen, shrunk)


def _holds_rgb(image: Image.Image, planes: list[tuple[int, int, int, int]]) -> bool:
    """By the rule of libjpeg: JFIF is YCbCr, Adobe's mark says, and else the planes' names do."""
    if "jfif" in image.info:
        return False
    if "adobe_transform" in image.info:
        return bool(image.info["adobe_transform"] == 0)
    return tuple(plane[0] for plane in planes) == _RGB_IDS


def encode_jpeg_as(image_HWC: ImageHWC, layout: JpegLayout) -> bytes | None:
    """The image as a JPEG file of that layout; None where no encoder at hand subsamples so.

    A layout of one plane takes the image's luma.
    """
    if layout.colours == "grey":
        return _written(cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY), layout.tables)
    luma, *chroma = layout.shrunk
    if layout.colours != "ycc" or luma != (1, 1) or len(set(chroma)) > 1:
        return None
    if chroma[0] not in _SUBSAMPLING:
        return None
    return _written(image_HWC, layout.tables, _SUBSAMPLING[chroma[0]])


def jpeg_as(image_HWC: ImageHWC, layout: str) -> ImageHWC:
    """Compress as a JPEG of another file's layout and decode again.

    Args:
        image_HWC: [H, W, C].
        layout: `JpegLayout.to_text()` of that file.

    Raises:
        ValueError: the image is larger than the format can hold, or `layout` is none.
    """
    wanted = JpegLayout.from_text(layout)
    if max(image_HWC.shape[:2]) > _MOST_PX:
        raise ValueError(f"JPEG holds at most {_MOST_PX} px a side")
    if (data := encode_jpeg_as(image_HWC, wanted)) is not None:
        return np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    if wanted.colours == "ycc" and wanted.shrunk[0] == (1, 1) and wanted.shrunk[1] == (2, 1):
        turned = JpegLayout(
            wanted.colours,
            tuple(tuple(np.reshape(table, (8, 8)).T.ravel().tolist()) for table in wanted.tables),
            tuple((h, v) for v, h in wanted.shrunk),
        )
        if (data := encode_jpeg_as(image_HWC.transpose(1, 0, 2), turned)) is not None:
            turned_HWC = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            return np.ascontiguousarray(turned_HWC.transpose(1, 0, 2))
    return _plane_by_plane(image_HWC, wanted)


def _written(pixels: NDArray[np.uint8], tables: tuple[Table, ...], subsampling: int = 0) -> bytes:
    # Equal tables are written once, as encoders do.
    while len(tables) > 1 and tables[-1] == tables[-2]:
        tables = tables[:-1]
    sink = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.save(sink, "JPEG", qtables=[list(one) for one in tables], subsampling=subsampling)
    return sink.getvalue()


def _plane_by_plane(image_HWC: ImageHWC, layout: JpegLayout) -> ImageHWC:
    height, width = image_HWC.shape[:2]
    planes_HWC = _to_ycc(image_HWC) if layout.colours == "ycc" else image_HWC
    done = []
    for at, (table, (v, h)) in enumerate(zip(layout.tables, layout.shrunk, strict=True)):
        small_HW = _shrink(planes_HWC[:, :, at], v, h)
        decoded_HW = np.asarray(Image.open(io.BytesIO(_written(small_HW, (table,)))))
        done.append(_enlarge(decoded_HW, v, h)[:height, :width])
    result_HWC = np.stack(done, axis=2)
    return _to_rgb(result_HWC) if layout.colours == "ycc" else result_HWC


def _shrink(plane_HW: NDArray[np.uint8], v: int, h: int) -> NDArray[np.uint8]:
    """Means of v × h px, the plane's edge repeated where they reach over it."""
    if (v, h) == (1, 1):
        return plane_HW
    height, width = plane_HW.shape
    over = ((0, math.ceil(height / v) * v - height), (0, math.ceil(width / h) * h - width))
    padded_HW = np.pad(plane_HW, over, mode="edge").astype(np.float32)
    tiles = padded_HW.reshape(padded_HW.shape[0] // v, v, padded_HW.shape[1] // h, h)
    return _levels(tiles.mean((1, 3)))


def _enlarge(plane_HW: NDArray[np.uint8], v: int, h: int) -> NDArray[np.uint8]:
    """By triangles where a side doubles, by repeats where it grows more: as libjpeg does."""
    for axis, factor in ((0, v), (1, h)):
        if factor == 2:
            size = (plane_HW.shape[1] * (1 + axis), plane_HW.shape[0] * (2 - axis))
            plane_HW = cv2.resize(plane_HW, size, interpolation=cv2.INTER_LINEAR)
        elif factor > 2:
            plane_HW = np.repeat(plane_HW, factor, axis)
    return plane_HW


_TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]]
)
_TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136286, -0.714136286], [1, 1.772, 0]])
_CENTRE = np.array([0, 128, 128])


def _to_ycc(image_HWC: ImageHWC) -> NDArray[np.uint8]:
    return _levels(image_HWC @ _TO_YCC.T + _CENTRE)


def _to_rgb(planes_HWC: NDArray[np.uint8]) -> ImageHWC:
    return _levels((planes_HWC.astype(np.float64) - _CENTRE) @ _TO_RGB.T)


def _levels(values: NDArray[Any]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)
    return levels
