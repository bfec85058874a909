"""Metadata in files made of boxes: AVIF, HEIC (ISO/IEC 23008-12), JPEG XL, JPEG 2000."""

from collections.abc import Iterator
from typing import Literal

_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_MOST_ITEMS = 1 << 12
_MOST_ITEM = 4 << 20  # bytes of one
_MOST_BOXES = 1 << 14  # side by side
_Found = Literal["exif", "xmp", "c2pa"]


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the content of each box from `start` on."""
    at, end = start, len(data) if end is None else min(end, len(data))
    for _ in range(_MOST_BOXES):
        if at + 8 > end:
            return
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        head = 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        size = end - at if size == 0 else size
        if size < head or at + size > end:
            return
        yield name, at + head, at + size
        at += size


def box_chunks(data: bytes) -> Iterator[tuple[_Found, str, bytes]]:
    """Kind, place in words and content of each metadata box or item at the top of a file."""
    for name, start, end in boxes(data):
        if name == b"meta":
            yield from _items(data, start + 4, end)
        elif name == b"Exif":  # JPEG XL: an offset, then the TIFF structure
            yield "exif", "Exif box", _after_offset(data[start:end])
        elif name == b"xml ":
            yield "xmp", "xml box", data[start:end]
        elif name == b"jumb":
            yield "c2pa", "jumb box", data[start - 8 : end]
        elif name == b"uuid" and data[start : start + 16] == _XMP:
            yield "xmp", "uuid box", data[start + 16 : end]
        elif name == b"uuid" and data[start : start + 16] == _C2PA:
            # Version and flags, a purpose that ends in 0; of a manifest then an offset.
            purpose, _, rest = data[start + 20 : end].partition(b"\0")
            if purpose == b"manifest":
                yield "c2pa", "uuid box", rest[8:]


def _after_offset(part: bytes) -> bytes:
    skipped = int.from_bytes(part[:4], "big")
    return part[4 + skipped :] if skipped < len(part) else b""


def _items(data: bytes, start: int, end: int) -> Iterator[tuple[_Found, str, bytes]]:
    """The items of a `meta` box that hold EXIF or XMP."""
    wanted: dict[int, _Found] = {}
    places: dict[int, bytes] = {}
    for name, at, until in boxes(data, start, end):
        if name == b"iinf":
            wanted = dict(_named_items(data, at, until))
    idat = next(((at, to) for name, at, to in boxes(data, start, end) if name == b"idat"), (0, 0))
    for name, at, until in boxes(data, start, end):
        if name == b"iloc" and wanted:
            places = dict(_located(data, idat, data[at:until], set(wanted)))
    for number, part in places.items():
        if wanted[number] == "exif":
            yield "exif", "Exif item", _after_offset(part)
        else:
            yield "xmp", "XMP item", part


def _named_items(data: bytes, start: int, end: int) -> Iterator[tuple[int, _Found]]:
    """Number and kind of each item that holds metadata."""
    count = 2 if data[start : start + 1] == b"\0" else 4
    for index, (name, at, until) in enumerate(boxes(data, start + 4 + count, end)):
        if name != b"infe" or index >= _MOST_ITEMS:
            return
        version = data[at] if at < until else 0
        if version < 2:
            continue
        width = 2 if version == 2 else 4
        number = int.from_bytes(data[at + 4 : at + 4 + width], "big")
        kind = data[at + 6 + width : at + 10 + width]
        content = data[at + 10 + width : until]
        if kind == b"Exif":
            yield number, "exif"
        elif kind == b"mime" and b"application/rdf+xml" in content.split(b"\0"):
            yield number, "xmp"


def _located(
    data: bytes, idat: tuple[int, int], iloc: bytes, wanted: set[int]
) -> Iterator[tuple[int, bytes]]:
    """The bytes of the wanted items.

    Args:
        data: the file.
        idat: start and end of the `idat` box, in which items of construction method 1 lie.
        iloc: content of the box that says where each lies.
        wanted: their numbers.
    """
    if len(iloc) < 8:
        return
    version = iloc[0]
    sizes = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15 if version else 0
    wide = 4 if version == 2 else 2
    at = 6

    def take(size: int) -> int:
        nonlocal at
        at += size
        return int.from_bytes(iloc[at - size : at], "big")

    for _ in range(min(take(wide), _MOST_ITEMS)):
        if at >= len(iloc):
            return
        number = take(wide)
        method = take(2) & 15 if version else 0
        take(2)  # of another file
        base, part = take(sizes[2]), bytearray()
        origin, last = idat if method == 1 else (0, len(data))
        for _ in range(take(2)):
            if at >= len(iloc):
                return
            take(sizes[3])
            offset, length = base + take(sizes[0]), take(sizes[1])
            if number in wanted and method < 2 and len(part) < _MOST_ITEM:
                at_most = min(origin + offset + min(length, _MOST_ITEM), last)
                part += data[origin + offset : at_most]
        if part:
            yield number, bytes(part)
