"""ZIP archives as they come: faults 29, 30, 31, 34 and 35, and what the directory costs."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayapp.download.archives import zip_spans, zips
from rayapp.download.archives.names import Wanted
from rayapp.download.archives.zips import read_index
from rayapp.download.origins.faults import Action, Fault
from rayapp.download.origins.ranges import LocalReader
from rayapp.download.origins.reader import Pin
from tests.download.helpers import jpeg, make_zip


class Bytes:
    """A reader of bytes at hand; counts what is read."""

    name = "bytes"

    def __init__(self, data: bytes):
        self.data = data
        self.num_bytes = 0

    def pin(self) -> Pin:
        return Pin(len(self.data), "")

    def read(self, start: int, num_bytes: int) -> bytes:
        if start + num_bytes > len(self.data):
            raise Fault(Action.CHANGED, "shorter than its index says")
        self.num_bytes += num_bytes
        return self.data[start : start + num_bytes]

    def stream(self):
        yield self.data


def contents(data: bytes, names: set[str], by_name: bool = False) -> dict[str, bytes | Fault]:
    reader = Bytes(data)
    index = read_index(reader, Wanted(names, by_name))
    spans = zip_spans.coalesce(index.members)
    return {m.name: content for s in spans for m, content in zip_spans.read_span(reader, s)}


MEMBERS = {f"a/{i}.jpg": jpeg(i) for i in range(20)}


@pytest.mark.parametrize("method", [zips.STORED, zips.DEFLATED, zips.BZIP2, zips.LZMA])
def test_every_method(method: int) -> None:
    assert contents(make_zip(MEMBERS, method), set(MEMBERS)) == MEMBERS


def test_deflate64_is_told_from_damage() -> None:
    import inflate64

    content = jpeg(3) * 20
    deflater = inflate64.Deflater()
    packed = deflater.deflate(content) + deflater.flush()
    member = zips.Member("x", 0, len(packed), len(content), zlib.crc32(content), 9, 0)
    assert zips.decode(member, packed) == content
    with pytest.raises(Fault):
        zips.decode(member, packed[:-40])


class _Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise io.UnsupportedOperation


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_29_data_descriptors(method: int) -> None:
    out = _Unseekable()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in MEMBERS.items():
            archive.writestr(name, content)
    assert contents(out.getvalue(), set(MEMBERS)) == MEMBERS


def test_29_prefix_and_comment() -> None:
    data = b"\x7fELF" + bytes(100_000) + make_zip(MEMBERS, comment=b"c" * 60_000)
    assert contents(data, set(MEMBERS)) == MEMBERS


def test_29_zip64_by_count_with_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 50)  # when zipfile writes ZIP64 records
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(600):
            archive.writestr(f"n/{number}", b"%d" % number)
    assert b"PK\x06\x06" in out.getvalue()
    names = {"n/0", "n/599", "n/300"}
    wanted = {name: name[2:].encode() for name in names}
    assert contents(out.getvalue(), names) == wanted
    assert contents(bytes(1000) + out.getvalue(), names) == wanted


def test_29_zip64_in_headers() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in MEMBERS.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)
    assert contents(out.getvalue(), set(MEMBERS)) == MEMBERS


def test_29_zip64_sizes_in_the_directory() -> None:
    """Sizes and offset as ones, the true ones in the extra field, in the fixed order."""
    values = zips._zip64(struct.pack("<2H3Q", 1, 24, 7, 8, 9), *[0xFFFFFFFF] * 3)
    assert values == [7, 8, 9]
    assert zips._zip64(struct.pack("<2HQ", 1, 8, 9), 5, 6, 0xFFFFFFFF) == [5, 6, 9]


def test_29_names_in_utf8_cp437_and_decomposed() -> None:
    data = make_zip({"é/ü.jpg": b"utf-8", "n\u0303/o.jpg": b"nfd"})
    assert contents(data, {"é/ü.jpg", "ñ/o.jpg"}) == {"é/ü.jpg": b"utf-8", "ñ/o.jpg": b"nfd"}
    old = make_zip({"x-y.jpg": b"old"}).replace(b"x-y.jpg", b"x\x81y.jpg")
    assert contents(old, {"xüy.jpg"}) == {"xüy.jpg": b"old"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_29_of_equal_names_the_last_counts_and_case_matters() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in (("a.jpg", b"1"), ("A.jpg", b"upper"), ("a.jpg", b"2")):
            archive.writestr(name, content)
    assert contents(out.getvalue(), {"a.jpg"}) == {"a.jpg": b"2"}


def test_members_answer_by_the_end_of_their_path() -> None:
    data = make_zip({"deep/er/s/1.jpg": b"1", "t/1.jpg": b"2", "xs/1.jpg": b"3"})
    assert contents(data, {"s/1.jpg"}) == {"s/1.jpg": b"1"}
    assert contents(data, {"q/1.jpg"}) == {}


def test_two_that_fit_are_ambiguous_unless_one_is_exact() -> None:
    data = make_zip({"u/s/1.jpg": b"1", "v/s/1.jpg": b"2"})
    index = read_index(Bytes(data), Wanted({"s/1.jpg"}))
    assert index.members == []
    assert "u/s/1.jpg and v/s/1.jpg" in index.ambiguous["s/1.jpg"]
    data = make_zip({"u/s/1.jpg": b"1", "v/s/1.jpg": b"2", "s/1.jpg": b"3"})
    assert contents(data, {"s/1.jpg"}) == {"s/1.jpg": b"3"}


def test_by_name_finds_buckets() -> None:
    data = make_zip({"original/0137/4176137.jpg": b"1"})
    assert contents(data, {"4176137.jpg"}, by_name=True) == {"4176137.jpg": b"1"}


def test_30_a_magic_inside_a_member() -> None:
    inner = make_zip({"in.jpg": b"inner"})
    data = make_zip({**MEMBERS, "z.zip": inner, "y": b"PK\x05\x06" + bytes(18)})
    assert contents(data, set(MEMBERS)) == MEMBERS
    assert contents(make_zip({"x": b"1"}, comment=b"PK\x05\x06"), {"x"}) == {"x": b"1"}


def test_31_a_flipped_bit_is_seen_and_costs_one_image() -> None:
    data = bytearray(make_zip(MEMBERS))
    data[data.index(MEMBERS["a/7.jpg"]) + 50] ^= 1
    got = contents(bytes(data), set(MEMBERS))
    fault = got.pop("a/7.jpg")
    assert isinstance(fault, Fault)
    assert "CRC-32" in fault.reason
    assert got == {k: v for k, v in MEMBERS.items() if k != "a/7.jpg"}


def test_34_a_name_never_decides_where_bytes_go() -> None:
    """Members whose names climb or start at the root answer by their tail, if at all."""
    data = make_zip({"../../etc/passwd": b"x", "/abs.jpg": b"y", "a/../b.jpg": b"z"})
    index = read_index(Bytes(data), Wanted({"b.jpg", "q.jpg"}))
    assert {member.name for member in index.members} == {"b.jpg"}  # the wanted name, not theirs


def test_35_bombs_are_refused_before_they_are_fetched() -> None:
    data = make_zip({"b.jpg": bytes(30 << 20)}, zipfile.ZIP_DEFLATED)
    (member,) = read_index(Bytes(data), Wanted({"b.jpg"})).members
    assert zips.refusal(member) == ""  # 30 MB from 30 kB is what deflate can do at best
    assert "bomb" in zips.refusal(member._replace(usize=member.usize * 20))
    assert "bomb" in zips.refusal(member._replace(usize=1 << 31, csize=1 << 31))
    with pytest.raises(Fault, match="recorded"):
        zips.decode(member._replace(usize=1000), data[zips.data_start(data) :][: member.csize])


def test_encrypted_and_unknown_methods_are_refused() -> None:
    data = make_zip({"b.jpg": b"x"})
    (member,) = read_index(Bytes(data), Wanted({"b.jpg"})).members
    assert "encrypted" in zips.refusal(member._replace(method=-1))
    assert "98" in zips.refusal(member._replace(method=98))


@pytest.mark.parametrize("data", [b"", b"PK", bytes(100), b"<html>" * 50], ids=len)
def test_what_is_no_archive_says_so(data: bytes) -> None:
    with pytest.raises(Fault, match="not a ZIP"):
        read_index(Bytes(data), Wanted({"a"}))


def test_a_cut_archive_says_so() -> None:
    with pytest.raises(Fault, match=r"not a ZIP|damaged"):
        read_index(Bytes(make_zip(MEMBERS)[:-30]), Wanted({"a"}))


def test_a_long_local_extra_field_costs_one_more_read() -> None:
    head = struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 5, 5, 1, 4000)
    content = b"hello"
    data = head + b"x" + bytes(4000) + content + bytes(8000)
    member = zips.Member("x", 0, 5, 5, zlib.crc32(content), 0, 30 + 1 + 5 + 128)
    span = zip_spans.Span(0, member.room, (member,))
    assert list(zip_spans.read_span(Bytes(data), span)) == [(member, content)]


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 300), st.integers(0, 255))
def test_damage_never_raises_but_faults(comment: bytes, place: int, value: int) -> None:
    data = bytearray(make_zip({"a/1.jpg": jpeg(1)[:80]}, comment=comment))
    data[-1 - place % len(data)] = value
    try:
        got = contents(bytes(data), {"a/1.jpg"})
    except Fault:
        return
    assert all(isinstance(c, Fault) or c == jpeg(1)[:80] for c in got.values())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 5000)), min_size=1, max_size=60),
    st.integers(0, 10_000),
    st.integers(1000, 50_000),
)
def test_spans_cover_all_members_once(
    places: list[tuple[int, int]], gap: int, span_bytes: int
) -> None:
    members = [zips.Member(str(n), o, r, r, 0, 0, r) for n, (o, r) in enumerate(places)]
    spans = zip_spans.coalesce(members, gap, span_bytes)
    assert sorted(m.name for s in spans for m in s.members) == sorted(m.name for m in members)
    for span in spans:
        assert all(span.start <= m.offset and m.offset + m.room <= span.stop for m in span.members)
        assert span.stop - span.start <= max(span_bytes, max(m.room for m in span.members))


def test_a_large_directory_is_read_without_memory(tmp_path: Path) -> None:
    path = write_directory(tmp_path / "big.zip", 10_000)
    wanted = Wanted({f"d/{n:08}.JPEG" for n in range(0, 10_000, 100)})
    tracemalloc.start()
    index = read_index(LocalReader(path), wanted)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(index.members) == 100
    assert index.num_entries == 10_000
    assert peak < 4 * index.num_directory_bytes


def write_directory(path: Path, count: int) -> Path:
    """An archive that is a central directory and nothing else, for its cost alone."""
    entries = bytearray()
    for number in range(count):
        name = b"d/%08d.JPEG" % number
        fields = (20, 20, 0, 0, 0, 0, 1, 110_000, 110_000, len(name), 0, 0, 0, 0, 0, 0)
        entries += struct.pack("<4s6H3I5H2I", b"PK\x01\x02", *fields) + name
    size = len(entries)
    end = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, 10**6)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 10**6 + size, 1)
    last = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)
    path.write_bytes(bytes(1_000_000) + entries + end + locator + last)
    return path
