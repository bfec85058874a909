"""Which kinds of image files are read, by what, and what a file's name or first bytes say it is.

Pillow reads most by itself. HEIC and JPEG XL need a plugin of the extra `formats`; it is loaded
when the first such file comes by. No other decoder of Pillow's is ever tried.
"""

import codecs
import contextlib
import ctypes
import functools
import importlib
import importlib.metadata
import re
from collections.abc import Iterator
from typing import Literal

from PIL import Image, features

# Pillow's names, tried in this order; then those of a plugin that is loaded.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000")
_PLUGIN_FORMATS = ("HEIF", "JXL")
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif",
    ".tif", ".tiff", ".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif", ".jxl",
    ".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc",
)  # fmt: skip
READ = "JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF, HEIC, JPEG XL or JPEG 2000"
# Decoded in a GB: Pillow's picture takes 4 bytes a pixel, ours 3; some decoders take 10 to 20.
MAX_PIXELS = 2**27
_MAX_PIXELS = dict.fromkeys(("WEBP", "AVIF", "JXL", "JPEG2000"), 8192 * 8192)
_PLUGINS = {"HEIC": "pillow_heif", "JPEG XL": "pillow_jxl"}

# What lies beside images and is none: labels, notes, code, archives, leavings of other programs.
_NO_IMAGE = re.compile(
    r"(^|/)\.|~$|\.(txt|jsonl?|csv|tsv|parquet|arrow|xml|ya?ml|toml|ini|md|html?|pdf|docx?|xlsx?"
    r"|py|ipynb|sh|log|np[yz]|pkl|pth?|ckpt|safetensors|onnx|db|sqlite|zip|tar|gz|tgz|bz2|xz|7z|rar"
    r"|mp[34]|m4[av]|mov|avi|mkv|webm|wav|flac|aae|xmp|bak|tmp|part|crdownload|lock|md5|sha\d+)$",
    re.IGNORECASE,
)
_STARTS = re.compile(
    rb"(?P<JPEG>\xff\xd8\xff)|(?P<PNG>\x89PNG)|(?P<GIF>GIF8[79]a)|(?P<WebP>RIFF....WEBP)"
    rb"|(?P<TIFF>II[*+]\0|MM\0[*+])|(?P<BMP>BM....\0\0\0\0)|(?P<AVIF>....ftypavi[fs])"
    rb"|(?P<HEIC>....ftyp(?:he[iv][cxms]|mif[123]|miaf|msf1))"
    rb"|(?P<JPEG_XL>\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n)"
    rb"|(?P<JPEG_2000>\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51)",
    re.DOTALL,
)
_OTHERS = re.compile(
    rb"(?P<an_OpenEXR_image>\x76\x2f\x31\x01)|(?P<a_Radiance_HDR_image>\#\?RADIANCE|\#\?RGBE)"
    rb"|(?P<a_Photoshop_file>8BPS)|(?P<a_PDF_file>%PDF-)|(?P<an_icon>\0\0[\1\2]\0[^\0]\0)"
    rb"|(?P<a_camera_raw_file>....ftypcrx|FUJIFILMCCD-RAW|IIU\0|IIR[OS])"
    rb"|(?P<a_video>....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI )|(?P<an_archive>PK\3\4|7z\xbc\xaf)"
    rb"|(?P<an_SVG_drawing>\s*(?:<(?:\?xml|!--|!DOCTYPE svg)[^>]*>\s*)*<svg)"
    rb"|(?P<a_web_page>(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html))",
    re.DOTALL | re.IGNORECASE,
)
Named = Literal["image", "other", "unknown"]


# libtiff writes what it thinks of a file to stderr, in the middle of a progress line and without
# the file's name; the row of the image says what is wrong. Pillow has no switch for that, but its
# module gives the functions of what it is linked with.
with contextlib.suppress(OSError, AttributeError, TypeError):
    _libtiff = ctypes.CDLL(importlib.import_module("PIL._imaging").__file__)
    _libtiff.TIFFSetErrorHandler(None)
    _libtiff.TIFFSetWarningHandler(None)


class ImageError(Exception):
    """The bytes are not an image that can be decoded; the message says why."""


def named_as(path: str) -> Named:
    """What a file's name says that it is; of `unknown` only the bytes tell (`starts_as`).

    Hidden files, copies that editors leave (`x.jpg~`) and what lies beside images (labels, notes,
    archives) are `other`.
    """
    if _NO_IMAGE.search(path):
        return "other"
    return "image" if path.lower().endswith(SUFFIXES) else "unknown"


def starts_as(head: bytes) -> str:
    """The kind of image that a file's first 32 bytes begin, `` where they begin none."""
    found = _STARTS.match(head)
    return str(found.lastgroup).replace("_", " ") if found else ""


def decoders_for(kind: str) -> list[str]:
    """Pillow's names of its decoders that may read a file, the plugin of its kind made ready.

    Raises:
        ImageError: it is not installed.
    """
    if kind in _PLUGINS and not _loaded(kind):
        raise ImageError(
            f"a {kind} image, which needs {_PLUGINS[kind]}: pip install 'imaginet-ray[formats]'"
        )
    return [*_FORMATS, *(name for name in _PLUGIN_FORMATS if name in Image.OPEN)]


@functools.cache
def _loaded(kind: str) -> bool:
    try:
        plugin = importlib.import_module(_PLUGINS[kind])
    except ImportError:
        return False
    if kind == "HEIC":
        plugin.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return True


def refuse_bomb(image: Image.Image, most: int) -> None:
    """Refuse an opened image with more pixels than `most`, or than its decoder takes in a GB.

    Raises:
        ImageError: it has more.
    """
    _refuse(*image.size, min(most, _MAX_PIXELS.get(str(image.format), most)))


def refuse_jxl_bomb(data: bytes, most: int) -> None:
    """The same of a JPEG XL file by its header: its plugin decodes while it opens.

    Raises:
        ImageError: it has more.
    """
    if size := jxl_size(data):
        _refuse(*size, min(most, _MAX_PIXELS["JXL"]))


def _refuse(width: int, height: int, most: int) -> None:
    if width * height > most:
        raise ImageError(
            f"{width}×{height} pixels, more than {most:,} are refused; cut a part out, at full size"
        )


def jxl_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by a JPEG XL header, None where there is none (ISO/IEC 18181-1, D.2)."""
    codestream = data if data[:2] == b"\xff\x0a" else _jxl_codestream(data)
    if codestream[:2] != b"\xff\x0a":
        return None
    bits = int.from_bytes(codestream[2:16], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    def side(in_eights: int) -> int:
        return 8 * (1 + take(5)) if in_eights else 1 + take((9, 13, 18, 30)[take(2)])

    in_eights = take(1)
    height, ratio = side(in_eights), take(3)
    above, below = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio]
    return (height * above // below if ratio else side(in_eights)), height


def _jxl_codestream(data: bytes) -> bytes:
    """The start of the codestream in a JPEG XL container."""
    at = 0
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        start = at + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        if kind in (b"jxlc", b"jxlp"):
            return data[start + 4 * (kind == b"jxlp") :][:16]
        if size < 8:
            break
        at += size
    return b""


def why_not(data: bytes) -> str:
    """Why bytes that no decoder takes are no image, for people."""
    if kind := starts_as(data):
        if kind == "AVIF" and not features.check("avif"):
            return "an AVIF image, and this Pillow is built without AVIF"
        old = kind in ("JPEG", "PNG", "GIF", "WebP", "BMP")
        why = "corrupt or truncated" if old else "corrupt, or of a kind that its decoder lacks"
        return f"{why}: starts as a{'n' * (kind == 'AVIF')} {kind}, goes on as none"
    if other := _OTHERS.match(data[:4096]):
        name = str(other.lastgroup).replace("_", " ")
        if name in ("a web page", "a video", "an archive"):
            return f"{name}, not an image"
        return f"{name}; save it as PNG or TIFF first"
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(data[:4096])
    except UnicodeDecodeError:
        text = "\0"
    return f"not a {READ} image" if "\0" in text else "text, not an image"


def decoder_versions() -> dict[str, str]:
    """Versions of the libraries that decode: they decide pixels as much as the code does."""
    return {name: version for name, version in _decoder_versions() if version}


def _decoder_versions() -> Iterator[tuple[str, str | None]]:
    modules = {
        "libjpeg-turbo": "libjpeg_turbo", "libwebp": "webp", "libavif": "avif",
        "openjpeg": "jpg_2000", "libtiff": "libtiff", "littlecms": "littlecms2", "zlib": "zlib",
    }  # fmt: skip
    for name, feature in modules.items():
        yield name, features.version(feature)
    with contextlib.suppress(ImportError):
        yield "libheif", importlib.import_module("pillow_heif").libheif_version()
    for name in ("pillow-heif", "pillow-jxl-plugin"):
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    import cv2  # here: it takes a fifth of a second

    for name, built in re.findall(r"^ +(JPEG|WEBP): +(.+)$", cv2.getBuildInformation(), re.M):
        yield f"OpenCV's {name}", built.strip()
