"""ZIP archives by their central directory: find the wanted members, decode one from its bytes.

The directory is read as a stream and only wanted entries are kept, so that one of 1.9 million
entries costs seconds and no memory. Format: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rayapp.download.archives.names import Places, Wanted
from rayapp.download.origins.faults import Action, Fault
from rayapp.download.origins.reader import Reader

_TAIL_BYTES = 65_536 + 22 + 20
_CHUNK_BYTES = 8 << 20
SLACK_BYTES = 128  # a local header's extra field may be longer than the directory's
_SIGNATURE = b"PK\x01\x02"
_LOCAL = struct.Struct("<4s5H3I2H")
_LENGTHS = struct.Struct("<3H")  # name, extra, comment; at 28 of an entry
_ENTRY = struct.Struct("<6xHH4xIII")  # from offset 2: flags at 8, method 10, crc 16, sizes 20, 24
STORED, DEFLATED, DEFLATE64, BZIP2, LZMA = 0, 8, 9, 12, 14
MAX_MEMBER_BYTES = 512 << 20
_MAX_RATIO = 1_100  # deflate cannot do better than 1,032 : 1


class Member(NamedTuple):
    """One wanted member: where its local header is and what its data must be.

    `room` bounds the local header and the data: `[offset, offset + room)` holds them, but for an
    unusually long extra field.
    """

    name: str
    offset: int
    csize: int
    usize: int
    crc: int
    method: int
    room: int


class Directory(NamedTuple):
    """Where the central directory is: start, length, entries, bytes before the archive."""

    start: int
    num_bytes: int
    num_entries: int
    prefix: int


@dataclass
class Index:
    """The wanted members found, those that could not be told apart, and the size of the whole."""

    members: list[Member]
    ambiguous: dict[str, str]
    num_entries: int
    num_directory_bytes: int


def locate(reader: Reader) -> Directory:
    """Find the central directory from the end of the archive; raises Fault when there is none."""
    size = reader.pin().num_bytes
    tail_start = max(size - _TAIL_BYTES, 0)
    tail = reader.read(tail_start, size - tail_start)
    place = len(tail) - 21
    while (place := tail.rfind(b"PK\x05\x06", 0, place + 3)) >= 0:
        found = _end_record(reader, tail, tail_start, place)
        if found:
            return found
    raise Fault(Action.FAIL, f"{reader.name}: not a ZIP archive, or cut short")


def _end_record(reader: Reader, tail: bytes, tail_start: int, place: int) -> Directory | None:
    """The directory by the end record at `place`, None where the bytes only look like one."""
    if place + 22 > len(tail):
        return None
    disk, _, _, entries, num_bytes, start, comment = struct.unpack_from("<4H2IH", tail, place + 4)
    if place + 22 + comment != len(tail):
        return None
    if disk not in (0, 0xFFFF):
        raise Fault(Action.FAIL, f"{reader.name}: a ZIP in several parts cannot be read")
    end = tail_start + place
    if place >= 20 and tail[place - 20 : place - 16] == b"PK\x06\x07":
        (record,) = struct.unpack_from("<Q", tail, place - 12)
        record_at = _zip64_record(reader, record, end - 20)
        if record_at is not None:
            head = reader.read(record_at, 56)
            entries, num_bytes, start = struct.unpack_from("<3Q", head, 32)
            end = record_at
    prefix = end - num_bytes - start
    if prefix < 0 or (num_bytes and reader.read(start + prefix, 4) != _SIGNATURE):
        return None
    return Directory(start + prefix, num_bytes, entries, prefix)


def _zip64_record(reader: Reader, claimed: int, locator: int) -> int | None:
    for start in (claimed, locator - 56):  # the claim is off by what was put before the archive
        if 0 <= start <= locator - 56 and reader.read(start, 4) == b"PK\x06\x06":
            return start
    return None


def read_index(reader: Reader, wanted: Wanted) -> Index:
    """The wanted members by one pass over the central directory; raises Fault."""
    directory = locate(reader)
    found: dict[str, tuple[Member, bytes]] = {}
    ambiguous: dict[str, str] = {}
    num_entries = 0
    buffer = b""
    for chunk in _chunks(reader, directory):
        buffer = buffer + chunk if buffer else chunk
        num_entries, used = _scan(buffer, wanted, directory.prefix, found, ambiguous, num_entries)
        buffer = buffer[used:]
    if num_entries & 0xFFFF != directory.num_entries & 0xFFFF or len(buffer) >= 46:
        raise Fault(Action.FAIL, f"{reader.name}: its central directory is damaged")
    for name, (member, _) in found.items():
        if member.offset + member.csize > directory.start:
            ambiguous[name] = "lies outside of the archive: its directory is damaged"
    members = [member for name, (member, _) in found.items() if name not in ambiguous]
    return Index(members, ambiguous, num_entries, directory.num_bytes)


def _chunks(reader: Reader, directory: Directory) -> Iterator[bytes]:
    stop = directory.start + directory.num_bytes
    for start in range(directory.start, stop, _CHUNK_BYTES):
        yield reader.read(start, min(_CHUNK_BYTES, stop - start))


def _scan(
    buffer: bytes,
    wanted: Wanted,
    prefix: int,
    found: dict[str, tuple[Member, bytes]],
    ambiguous: dict[str, str],
    num_entries: int,
) -> tuple[int, int]:
    """Keep the wanted of the whole entries in `buffer`; returns (entries so far, bytes used)."""
    places, used = _entries(buffer)
    for place in wanted.likely(buffer, places).tolist():
        name_len, _, _ = _LENGTHS.unpack_from(buffer, place + 28)
        name = buffer[place + 46 : place + 46 + name_len]
        key = wanted.find(name, bool(buffer[place + 9] & 8))
        if key is not None:
            _keep(key, name, _member(buffer, place, key, prefix), found, ambiguous)
    return num_entries + len(places), used


def _entries(buffer: bytes) -> tuple[Places, int]:
    """(where the whole entries of `buffer` start, bytes they take).

    Candidates are found by their signature all at once; where they do not form the chain that the
    lengths say (a signature inside of a name), the chain is walked step by step.
    """
    data = np.frombuffer(buffer, np.uint8)
    starts = np.flatnonzero(data[: max(len(data) - 45, 0)] == _SIGNATURE[0])
    for offset in (1, 2, 3):
        starts = starts[data[starts + offset] == _SIGNATURE[offset]]
    ends = starts + 46
    for offset in (28, 30, 32):
        ends += data[starts + offset] + (data[starts + offset + 1].astype(np.int64) << 8)
    chained = len(starts) > 0 and starts[0] == 0 and bool((ends[:-1] == starts[1:]).all())
    if not chained:
        starts, ends = _walked(buffer)
    whole = ends <= len(buffer)
    return starts[whole], int(ends[whole][-1]) if whole.any() else 0


def _walked(buffer: bytes) -> tuple[Places, Places]:
    starts, ends = [], []
    place = 0
    while place <= len(buffer) - 46 and buffer[place : place + 4] == _SIGNATURE:
        starts.append(place)
        place += 46 + sum(_LENGTHS.unpack_from(buffer, place + 28))
        ends.append(place)
    return np.array(starts, np.int64), np.array(ends, np.int64)


def _keep(
    key: str,
    name: bytes,
    member: Member,
    found: dict[str, tuple[Member, bytes]],
    ambiguous: dict[str, str],
) -> None:
    """Of equal names the last counts, as everywhere; of different ones the exact; else none."""
    before = found.get(key)
    exact = key.encode()
    if before and before[1] not in (name, exact) and name != exact:
        other, this = (text.decode("utf-8", "replace") for text in (before[1], name))
        ambiguous[key] = f"two members fit: {other} and {this}"
    elif before is None or name in (before[1], exact):
        ambiguous.pop(key, None)
        found[key] = (member, name)


def _member(buffer: bytes, place: int, name: str, prefix: int) -> Member:
    flags, method, crc, csize, usize = _ENTRY.unpack_from(buffer, place + 2)
    name_len, extra_len, _ = _LENGTHS.unpack_from(buffer, place + 28)
    (offset,) = struct.unpack_from("<I", buffer, place + 42)
    extra_at = place + 46 + name_len
    if 0xFFFFFFFF in (csize, usize, offset):
        usize, csize, offset = _zip64(buffer[extra_at : extra_at + extra_len], usize, csize, offset)
    if flags & 1:
        method = -1
    room = _LOCAL.size + name_len + extra_len + csize + SLACK_BYTES
    return Member(name, offset + prefix, csize, usize, crc, method, room)


def _zip64(extra: bytes, *values: int) -> list[int]:
    """Sizes and offset, those that are all ones taken from the ZIP64 extra field in order."""
    place = 0
    while place + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, place)
        if tag == 1:
            field_bytes = extra[place + 4 : place + 4 + length]
            large = iter(
                struct.unpack(f"<{len(field_bytes) // 8}Q", field_bytes[: length // 8 * 8])
            )
            return [next(large, value) if value == 0xFFFFFFFF else value for value in values]
        place += 4 + length
    return list(values)


def refusal(member: Member) -> str:
    """Why a member is not even fetched, '' when it is."""
    if member.method == -1:
        return "the member is encrypted"
    if member.method not in (STORED, DEFLATED, DEFLATE64, BZIP2, LZMA):
        return f"compression method {member.method} is not known"
    if member.usize > MAX_MEMBER_BYTES or member.usize > (member.csize + 64) * _MAX_RATIO:
        return f"a bomb: {member.csize} bytes claim to be {member.usize}"
    return ""


def data_start(head: bytes | memoryview) -> int:
    """Where the data starts after the local header in `head`; raises Fault when it is none."""
    if len(head) < _LOCAL.size or bytes(head[:4]) != b"PK\x03\x04":
        raise Fault(Action.RETRY, "no local header where the index says")
    *_, name_len, extra_len = _LOCAL.unpack_from(head)
    return int(_LOCAL.size + name_len + extra_len)


def decode(member: Member, data: bytes | memoryview) -> bytes:
    """The member's content from its compressed bytes, size and CRC-32 checked; raises Fault."""
    try:
        content = _inflate(member, data)
    except (zlib.error, ValueError, OSError, EOFError) as error:
        raise Fault(Action.RETRY, f"cannot be decompressed: {error}") from error
    if len(content) != member.usize:
        raise Fault(Action.RETRY, f"{len(content)} bytes where {member.usize} are recorded")
    if zlib.crc32(content) != member.crc:
        raise Fault(Action.RETRY, "the CRC-32 is not the recorded one")
    return content


def _inflate(member: Member, data: bytes | memoryview) -> bytes:
    if member.method == STORED:
        return bytes(data)
    if member.method == DEFLATED:
        inflater = zlib.decompressobj(-15)
        return inflater.decompress(data, member.usize + 1)
    if member.method == BZIP2:
        import bz2

        return bz2.BZ2Decompressor().decompress(data, member.usize + 1)
    if member.method == LZMA:
        return _unlzma(bytes(data), member.usize)
    import inflate64

    return bytes(inflate64.Inflater().inflate(bytes(data)))


def _unlzma(data: bytes, usize: int) -> bytes:
    import lzma

    (props_len,) = struct.unpack_from("<H", data, 2)
    # liblzma decodes the property bytes; typeshed does not know the function
    options = lzma._decode_filter_properties(lzma.FILTER_LZMA1, data[4 : 4 + props_len])  # type: ignore[attr-defined]
    decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[options])
    return decoder.decompress(data[4 + props_len :], usize + 1)
