"""The parts of an image file in which metadata stands, found by the file's own structure.

Bytes are never searched: what merely looks like metadata, inside pixels or behind the end, is not
seen. A walk ends where a file's structure does, and nothing is read beyond `data`.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rayapp.dataset.declared.boxes import box_chunks
from rayapp.dataset.declared.fields import tiff_blocks
from rayapp.dataset.formats import starts_as

_MOST_TEXT = 1 << 20  # of one text unpacked; ComfyUI's graphs take a tenth of that
_MOST_TEXTS = 3 << 19  # of all texts of a file
_MOST_SEGMENTS = 1 << 12  # of a JPEG before its pixels
_MOST_CHUNKS = 1 << 16  # of a PNG or WebP: a gigabyte of pixels has fewer
_MOST_BLOCKS = 1 << 17  # of a GIF: 33 MB
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_MOST_MORE_XMP, _MOST_PACKETS = 2 << 20, 4
_XMP_KEY = "XML:com.adobe.xmp"
_XMP_TRAILER = 257  # a GIF's XMP ends in a ramp of bytes that leads readers of blocks out of it
_RAW_PROFILE = re.compile(r"Raw profile type (exif|APP1|xmp|iptc)")


@dataclass(frozen=True)
class Chunk:
    """One part: what it holds, where it stands in words, and of a text its keyword."""

    kind: Literal["exif", "xmp", "iptc", "text", "c2pa"]
    where: str
    data: bytes
    key: str = ""


def chunks(data: bytes) -> Iterator[Chunk]:
    """The metadata of a file, of a kind that `formats` names; of another none."""
    kind = starts_as(data[:32])
    walks = {"JPEG": _jpeg, "PNG": _png, "WebP": _webp, "GIF": _gif}
    if kind in walks:
        yield from walks[kind](data)
    elif kind == "TIFF":
        yield Chunk("exif", "TIFF tags", data)
        for block, part in tiff_blocks(data):
            if block == "photoshop":
                yield from _app13(part)
            else:
                yield Chunk(block, f"TIFF {block.upper()}", part)
    elif kind in ("AVIF", "HEIC", "JPEG XL", "JPEG 2000"):
        for name, where, part in box_chunks(data):
            yield Chunk(name, f"{kind} {where}", part)


# --- JPEG ------------------------------------------------------------------------


def _jpeg(data: bytes) -> Iterator[Chunk]:
    """Segments up to the pixels; manifests over several segments are put together."""
    manifests: dict[bytes, bytearray] = {}
    packets: list[bytes] = []
    extended: dict[bytes, bytearray] = {}
    for marker, part in _segments(data):
        if marker == 0xE1 and part.startswith(b"Exif\0"):
            yield Chunk("exif", "JPEG APP1 EXIF", part[6:])
        elif marker == 0xE1 and part.startswith(_XMP):
            packets.append(part[len(_XMP) :])
            yield Chunk("xmp", "JPEG APP1 XMP", packets[-1])
        elif marker == 0xE1 and part.startswith(_MORE_XMP):
            _extend(extended, part[len(_MORE_XMP) :])
        elif marker == 0xED:
            yield from _app13(part)
        elif marker == 0xFE:
            yield Chunk("text", "JPEG comment", part, "comment")
        elif marker == 0xEB and part[:2] == b"JP" and len(part) >= 16:
            # ISO/IEC 19566-5: after the first segment of a box the others repeat its header.
            head = 16 if part[8:12] == b"\0\0\0\1" else 8
            known = manifests.get(part[2:4])
            if known is None:
                manifests[part[2:4]] = bytearray(part[8:])
            else:
                known += part[8 + head :]
    for guid, packet in extended.items():
        # What no packet names is a leftover of another picture.
        if any(guid in one for one in packets):
            yield Chunk("xmp", "JPEG APP1 extended XMP", bytes(packet))
    for box in manifests.values():
        if box[4:8] == b"jumb":
            yield Chunk("c2pa", "JPEG APP11", bytes(box))


def _extend(extended: dict[bytes, bytearray], part: bytes) -> None:
    """Put a piece of a packet that is too large for one segment where it belongs.

    Before it stand the packet's GUID, its length and where the piece starts (XMP, part 3, 1.1.3.1).
    """
    guid, piece = part[:32], part[40:]
    whole, start = (int.from_bytes(part[at : at + 4], "big") for at in (32, 36))
    if whole > _MOST_MORE_XMP or start + len(piece) > whole or len(extended) >= _MOST_PACKETS:
        return
    packet = extended.setdefault(guid, bytearray(whole))
    if len(packet) == whole:
        packet[start : start + len(piece)] = piece


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 2
    for _ in range(_MOST_SEGMENTS):
        if at + 4 > len(data) or data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker in (0xDA, 0xD9):  # pixels, or the end
            return
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if size < 2 or at + 2 + size > len(data):
            return
        yield marker, data[at + 4 : at + 2 + size]
        at += 2 + size


def _app13(part: bytes) -> Iterator[Chunk]:
    """The IPTC records among Photoshop's resources."""
    at = part.find(b"\0") + 1 if part.startswith(b"Photoshop 3.0\0") else 0
    for _ in range(_MOST_SEGMENTS):
        if part[at : at + 4] != b"8BIM":
            return
        number = int.from_bytes(part[at + 4 : at + 6], "big")
        at += 6 + (part[at + 6] | 1) + 1 if at + 6 < len(part) else len(part)
        size = int.from_bytes(part[at : at + 4], "big")
        if at + 4 + size > len(part):
            return
        if number == 0x0404:
            yield Chunk("iptc", "IPTC record", part[at + 4 : at + 4 + size])
        at += 4 + size + size % 2


# --- PNG -------------------------------------------------------------------------


def _png(data: bytes) -> Iterator[Chunk]:
    at, left = 8, _MOST_TEXTS
    for _ in range(_MOST_CHUNKS):
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if name == b"IEND" or at + 12 + size > len(data):
            return
        if name == b"eXIf":
            part = data[at + 8 : at + 8 + size]
            yield Chunk("exif", "PNG eXIf", part.removeprefix(b"Exif\0\0"))
        elif name == b"caBX":
            yield Chunk("c2pa", "PNG caBX", data[at + 8 : at + 8 + size])
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            key, text = _png_text(name, data[at + 8 : at + 8 + size], min(left, _MOST_TEXT))
            left -= len(text)
            yield from _png_texts(name.decode(), key, text)
        at += 12 + size


def _png_text(name: bytes, part: bytes, most: int) -> tuple[str, bytes]:
    """Keyword and UTF-8 text of a text chunk; empty where it is damaged or too large."""
    raw_key, _, rest = part.partition(b"\0")
    key = raw_key[:79].decode("latin-1")
    if name == b"tEXt":
        text = rest if rest.isascii() else _utf8_or_latin1(rest)
        return key, text[:most]
    if name == b"zTXt":
        return key, _inflated(rest[1:], most)
    packed, rest = rest[:1] == b"\1", rest[2:]
    for _ in range(2):  # language, translated keyword
        rest = rest.partition(b"\0")[2]
    return key, _inflated(rest, most) if packed else rest[:most]


def _utf8_or_latin1(text: bytes) -> bytes:
    """Latin-1 by the specification; generators often write UTF-8 all the same."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1").encode()
    return text


def _inflated(packed: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, max(most, 1))
    except zlib.error:
        return b""


def _png_texts(name: str, key: str, text: bytes) -> Iterator[Chunk]:
    if key == _XMP_KEY:
        yield Chunk("xmp", f"PNG {name} XMP", text)
    elif found := _RAW_PROFILE.fullmatch(key):  # as ImageMagick keeps EXIF: name, length, hex
        kind = found[1]
        digits = b"".join(text.split()[2:])
        try:
            raw = bytes.fromhex(digits.decode("ascii"))
        except ValueError:
            return
        where = f"PNG {name} profile"
        if raw.startswith(_XMP) or kind == "xmp":
            yield Chunk("xmp", where, raw.removeprefix(_XMP))
        elif kind == "iptc":
            yield from _app13(raw)
        else:
            yield Chunk("exif", where, raw.removeprefix(b"Exif\0\0"))
    else:
        yield Chunk("text", f"PNG {name}", text, key)


# --- WebP, GIF -------------------------------------------------------------------


def _webp(data: bytes) -> Iterator[Chunk]:
    at, end = 12, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    for _ in range(_MOST_CHUNKS):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        part = data[at + 8 : at + 8 + size]
        if len(name) < 4 or at + 8 + size > end:
            return
        if name == b"EXIF":
            yield Chunk("exif", "WebP EXIF", part.removeprefix(b"Exif\0\0"))
        elif name == b"XMP ":
            yield Chunk("xmp", "WebP XMP", part)
        elif name == b"C2PA":
            yield Chunk("c2pa", "WebP C2PA", part)
        at += 8 + size + size % 2


def _gif(data: bytes) -> Iterator[Chunk]:
    at, left = 13 + _colours(data[10:11]), _MOST_BLOCKS
    while left > 0:
        kind, label = data[at : at + 1], data[at + 1 : at + 2]
        if kind == b",":  # a frame
            start = at + 10 + _colours(data[at + 9 : at + 10]) + 1
        elif kind == b"!":
            start = at + 2
        else:
            return
        at, num_blocks = _after_blocks(data, start, left)
        left -= num_blocks + 8
        if kind == b"!" and label == b"\xfe":
            yield Chunk("text", "GIF comment", _joined(data[start:at])[:_MOST_TEXT], "comment")
        elif kind == b"!" and label == b"\xff":
            name, part = data[start + 1 : start + 12], data[start + 12 : at]
            if name == b"XMP DataXMP":
                yield Chunk("xmp", "GIF XMP", part[:-_XMP_TRAILER])
            elif name[:8] == b"C2PA_GIF":
                yield Chunk("c2pa", "GIF C2PA_GIF", _joined(part))


def _colours(flags: bytes) -> int:
    """Bytes of a colour table, by the flags before it."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _after_blocks(data: bytes, at: int, most: int) -> tuple[int, int]:
    """Where a chain of blocks that starts at `at` is over, and how many it has, at most `most`."""
    number = 0
    while at < len(data) and data[at] and number < most:
        at += 1 + data[at]
        number += 1
    return at + 1, number


def _joined(blocks: bytes) -> bytes:
    parts, at = [], 0
    while at < len(blocks) and blocks[at]:
        parts.append(blocks[at + 1 : at + 1 + blocks[at]])
        at += 1 + blocks[at]
    return b"".join(parts)
