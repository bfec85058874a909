"""What a file's container says of how its pixels were kept."""

from collections.abc import Iterator

from PIL import Image

_LOSSLESS = frozenset({"BMP", "PNG", "PPM", "TGA"})
# By Pillow's names; the others of TIFF (JPEG, WebP) lose something.
_LOSSLESS_TIFF = frozenset(
    {"raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd"}
)
FEW_COLOURS = frozenset({"1", "P", "PA"})


def is_lossless_webp(data: bytes) -> bool:
    """Whether a WebP holds its pixels as they were; of an animated one the first is not told."""
    return "VP8L" in _chunks(data)


def is_lossless(image: Image.Image, data: bytes) -> bool:
    """Whether an opened file keeps pixels of any colour as they were, so far as it says.

    Args:
        image: as Pillow opened it; its pixels are not read.
        data: the file.
    """
    if image.mode in FEW_COLOURS:
        return False
    if image.format == "TIFF":
        return image.info.get("compression") in _LOSSLESS_TIFF
    if image.format == "WEBP":
        return is_lossless_webp(data)
    return image.format in _LOSSLESS


def _chunks(data: bytes) -> Iterator[str]:
    """Names of a WebP's chunks."""
    at = 12
    while at + 8 <= len(data):
        yield data[at : at + 4].decode("latin-1")
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
