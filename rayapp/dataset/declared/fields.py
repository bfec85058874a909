"""Fields of EXIF (a TIFF structure), XMP and IPTC records that say how an image came about.

Written out here and not left to a library, as damaged files are read within bounds: at most some
entries, each of at most so many bytes.
"""

import contextlib
from collections.abc import Iterator
from typing import Literal
from xml.parsers import expat

_EXIF_IFD = 34665
_TAGS = {
    270: "ImageDescription",
    271: "Make",
    272: "Model",
    305: "Software",
    315: "Artist",
    33434: "ExposureTime",
    33437: "FNumber",
    34855: "ISO",
    37386: "FocalLength",
    37510: "UserComment",
    40092: "XPComment",
}
_BLOCKS: dict[int, Literal["xmp", "iptc", "photoshop", "c2pa"]] = {
    700: "xmp",
    33723: "iptc",
    34377: "photoshop",
    52545: "c2pa",
}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 12: 8, 13: 4, 16: 8, 18: 8}
_MOST_ENTRIES = 512
_MOST_RECORDS = 1 << 12
_MOST_BYTES = 1 << 20  # of a field
_MOST_BLOCK = 64 << 20
_IIM = {40: "Instructions", 65: "OriginatingProgram", 110: "Credit", 115: "Source", 120: "Caption"}
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_MOST_XMP = 2 << 20
_MOST_NODES = 20_000

Fields = dict[str, str]


def exif_fields(data: bytes) -> Fields:
    """Field → text of a TIFF structure's first directory and its EXIF directory."""
    found: Fields = {}
    entries = dict(_entries(data, None))
    if pointer := entries.get(_EXIF_IFD):
        at = int.from_bytes(pointer[1], _order(data))
        entries = {**dict(_entries(data, at)), **entries}
    for tag, name in _TAGS.items():
        if tag in entries:
            kind, value = entries[tag]
            text = _comment(value, _order(data)) if tag == 37510 else _text(kind, value)
            if tag == 40092:
                text = value.decode("utf-16-le", "replace").rstrip("\0")
            if text:
                found[name] = text
    return found


def tiff_blocks(data: bytes) -> Iterator[tuple[Literal["xmp", "iptc", "photoshop", "c2pa"], bytes]]:
    """The blocks of metadata in a TIFF file's first directory."""
    for tag, (_, value) in _entries(data, None, _MOST_BLOCK, frozenset(_BLOCKS)):
        yield _BLOCKS[tag], value


def _order(data: bytes) -> Literal["little", "big"]:
    return "big" if data[:2] == b"MM" else "little"


def _entries(
    data: bytes, at: int | None, most: int = _MOST_BYTES, only: frozenset[int] | None = None
) -> Iterator[tuple[int, tuple[int, bytes]]]:
    """Tag → type and bytes of a directory; the first one where `at` is None."""
    order = _order(data)
    if data[:2] not in (b"II", b"MM"):
        return
    big = int.from_bytes(data[2:4], order) == 43
    width, per_entry, counted = (8, 20, 8) if big else (4, 12, 2)
    if at is None:
        at = int.from_bytes(data[8:16] if big else data[4:8], order)
    number = int.from_bytes(data[at : at + counted], order)
    wanted = only if only is not None else {*_TAGS, _EXIF_IFD}
    for index in range(min(number, _MOST_ENTRIES)):
        entry = data[at + counted + index * per_entry :][:per_entry]
        if len(entry) < per_entry:
            return
        tag, kind = int.from_bytes(entry[:2], order), int.from_bytes(entry[2:4], order)
        count = int.from_bytes(entry[4 : 4 + width], order)
        size = count * _SIZES.get(kind, 0)
        if tag not in wanted or not 0 < size <= most:
            continue
        value = entry[4 + width :]
        if size > width:
            start = int.from_bytes(value, order)
            value = data[start : start + size]
        yield tag, (kind, value[:size])


def _text(kind: int, value: bytes) -> str:
    if kind not in (2, 7):
        return "yes"  # a number: that it is there is what counts
    text = value.split(b"\0", 1)[0]
    try:
        return text.decode().strip()
    except UnicodeDecodeError:
        return text.decode("latin-1").strip()


def _comment(value: bytes, order: Literal["little", "big"]) -> str:
    """EXIF's UserComment: eight bytes name its code. Writers differ in UNICODE's byte order."""
    code, text = value[:8], value[8:]
    if code == b"UNICODE\0":
        if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return text.decode("utf-16", "replace").rstrip("\0 ")
        zeros_first, zeros_second = text[0::2].count(0), text[1::2].count(0)
        if zeros_first != zeros_second:
            order = "big" if zeros_first > zeros_second else "little"
        utf16 = "utf-16-be" if order == "big" else "utf-16-le"
        return text.decode(utf16, "replace").rstrip("\0 ")
    if code not in (b"ASCII\0\0\0", b"\0" * 8, b"JIS\0\0\0\0\0"):
        text = value  # written without a code
    return text.decode("utf-8", "replace").strip("\0 ")


def iptc_fields(data: bytes) -> Fields:
    """Field → text of IPTC records (IIM, record 2)."""
    found: Fields = {}
    at = 0
    for _ in range(_MOST_RECORDS):
        if at + 5 > len(data) or data[at] != 0x1C:
            break
        record, number = data[at + 1], data[at + 2]
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        if size & 0x8000 or at + 5 + size > len(data):
            break
        if record == 2 and number in _IIM:
            found[_IIM[number]] = data[at + 5 : at + 5 + size].decode("utf-8", "replace")
        at += 5 + size
    return found


def xmp_fields(packet: bytes) -> Fields:
    """Property (without its namespace) → text of an XMP packet; several texts a line each."""
    if len(packet) > _MOST_XMP:
        return {}
    utf16 = packet[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = packet.decode("utf-16" if utf16 else "utf-8-sig", "replace").strip("\0 \r\n\t")
    found = _Properties()
    # What stands before damage was declared all the same.
    with contextlib.suppress(expat.ExpatError, _Enough):
        found.read(text.partition("<?xpacket end")[0])
    kept = {name: list(dict.fromkeys(values)) for name, values in found.values.items()}
    return {name: "\n".join(values) for name, values in kept.items()}


class _Enough(Exception):
    """More than any writer of XMP writes, or what none does."""


class _Properties:
    """Properties of an RDF document, as it is read: elements and attributes outside of RDF's own.

    No tree is kept: a packet of two megabytes can hold half a million elements.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self._inside: list[str] = []
        self._text: list[str] = []
        self._num_nodes = 0

    def read(self, text: str) -> None:
        parser = expat.ParserCreate("utf-8", " ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.Parse(text.encode(), True)

    def _refuse(self, *_: object) -> None:
        raise _Enough  # entities, which only bombs need

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._flush()
        self._num_nodes += 1
        if self._num_nodes > _MOST_NODES:
            raise _Enough
        self._inside.append("" if name.startswith(_RDF) else name.rpartition(" ")[2])
        for key, value in attributes.items():
            if not key.startswith(_RDF):
                self._add(key.rpartition(" ")[2], value)
            elif key == f"{_RDF} resource":
                self._add(self._property, value)

    def _end(self, _: str) -> None:
        self._flush()
        self._inside.pop()

    @property
    def _property(self) -> str:
        """The nearest element that is not RDF's own; of a list's item the list's."""
        return next((name for name in self._inside[:-4:-1] if name), "")

    def _flush(self) -> None:
        self._add(self._property, "".join(self._text))
        self._text.clear()

    def _add(self, name: str, value: str) -> None:
        if name and (text := value.strip()):
            self.values.setdefault(name, []).append(text)
