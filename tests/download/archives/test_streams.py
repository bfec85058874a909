"""Archives in one pass: faults 33, 34, 36 to 39."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zipfile
from pathlib import Path

import py7zr
import pytest

from rayapp.download.archives import streams
from rayapp.download.archives.names import Wanted
from rayapp.download.archives.seven import seven_stream
from rayapp.download.archives.streams import Found, ResumePoint
from rayapp.download.origins.faults import Fault
from rayapp.download.origins.ranges import JoinedReader, RangeFile
from tests.doubles.server import Reply, Server, files_handler
from tests.download.archives.test_zips import Bytes, _Unseekable
from tests.download.helpers import http, jpeg, make_zip

MEMBERS = {f"000/{i:04}.jpg": jpeg(i % 50) for i in range(150)}
WANTED = set(list(MEMBERS)[::3])


def make_tar(members: dict[str, bytes] = MEMBERS) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def make_seven(folder: Path, solid: bool, password: str | None = None) -> bytes:
    path = folder / "a.7z"
    filters = None if solid else [{"id": py7zr.FILTER_COPY}]
    with py7zr.SevenZipFile(path, "w", filters=filters, password=password) as seven:
        for name, content in MEMBERS.items():
            seven.writestr(content, name)
    return path.read_bytes()


def collect(run) -> dict[str, bytes | Fault]:
    found: list[Found] = []
    run(found.append)
    return {each.name: each.content for each in found}


RIGHT = {name: MEMBERS[name] for name in WANTED}


@pytest.mark.parametrize("kind", ["tar", "gz"])
def test_tar_with_ranges(kind: str) -> None:
    data = make_tar() if kind == "tar" else gzip.compress(make_tar())
    reader = Bytes(data)
    assert streams.kind_of(reader) == kind
    got = collect(lambda d: streams.tar_stream(reader, Wanted(WANTED), d, gzipped=kind == "gz"))
    assert got == RIGHT


def test_tar_without_ranges() -> None:
    data = gzip.compress(make_tar())
    with Server(files_handler({"/a": data})) as server:
        server.script = lambda request, number, right: Reply(200, {}, data)
        reader = http(f"{server.url}/a")
        got = collect(lambda d: streams.tar_stream(reader, Wanted(WANTED), d, gzipped=True))
    assert got == RIGHT


@pytest.mark.parametrize("gzipped", [True, False])
def test_tar_goes_on_at_a_resume_point(gzipped: bool) -> None:
    data = gzip.compress(make_tar(), 1) if gzipped else make_tar()
    points: list[ResumePoint] = []
    seen: list[Found] = []
    streams.tar_stream(
        Bytes(data),
        Wanted(WANTED),
        seen.append,
        gzipped=gzipped,
        save=points.append,
        save_every_s=0,
        spacing_bytes=1 << 16,
    )
    point = points[len(points) // 2]
    reader = Bytes(data)
    rest = collect(
        lambda d: streams.tar_stream(reader, Wanted(WANTED), d, gzipped=gzipped, resume=point)
    )
    assert 0 < len(rest) < len(RIGHT)
    assert rest == {name: RIGHT[name] for name in rest}
    assert {f.name for f in seen if f.offset >= point.offset} == set(rest)


def test_a_large_archive_is_read_once_and_goes_on_near_its_resume_point() -> None:
    everything = {f"{n:04}.jpg": random.Random(n).randbytes(1 << 20) for n in range(170)}
    data = gzip.compress(make_tar(everything), 1)
    points: list[ResumePoint] = []
    seen: list[Found] = []
    reader, wanted = Bytes(data), Wanted(set(everything))
    streams.tar_stream(reader, wanted, seen.append, gzipped=True, save=points.append)
    assert reader.num_bytes <= len(data) + 2
    assert len(points) >= 4
    for point in points:
        again, rest = Bytes(data), list[Found]()
        streams.tar_stream(again, wanted, rest.append, gzipped=True, resume=point)
        expected = {one.name for one in seen if one.offset >= point.offset}
        assert {one.name: one.content for one in rest} == {n: everything[n] for n in expected}
        left = len(data) - point.offset  # random bytes are no smaller packed
        assert again.num_bytes <= left + (64 << 20)
    assert again.num_bytes < len(data) / 2


def test_38_concatenated_gzip_members() -> None:
    tar = make_tar()
    data = gzip.compress(tar[:60_000]) + gzip.compress(tar[60_000:])
    got = collect(lambda d: streams.tar_stream(Bytes(data), Wanted(WANTED), d, gzipped=True))
    assert got == RIGHT


@pytest.mark.parametrize("gzipped", [True, False])
def test_38_a_cut_archive_keeps_what_came_before(gzipped: bool) -> None:
    data = gzip.compress(make_tar()) if gzipped else make_tar()
    found: list[Found] = []
    with pytest.raises(Fault, match=r"cut|damaged"):
        streams.tar_stream(
            Bytes(data[: len(data) // 2]), Wanted(WANTED), found.append, gzipped=gzipped
        )
    good = {f.name: f.content for f in found if isinstance(f.content, bytes)}
    assert 10 < len(good) < len(RIGHT)
    assert good == {name: RIGHT[name] for name in good}


def test_34_links_and_devices_are_never_followed() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind in (("a.jpg", tarfile.SYMTYPE), ("b.jpg", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    got = collect(
        lambda d: streams.tar_stream(
            Bytes(out.getvalue()), Wanted({"a.jpg", "b.jpg"}), d, gzipped=False
        )
    )
    assert all(isinstance(content, Fault) for content in got.values())
    assert len(got) == 2


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_stream(method: int) -> None:
    data = make_zip(MEMBERS, method)
    assert collect(lambda d: streams.zip_stream(Bytes(data), Wanted(WANTED), d)) == RIGHT


def test_39_stored_with_descriptors_is_spooled() -> None:
    out = _Unseekable()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in MEMBERS.items():
            archive.writestr(name, content)
    assert collect(lambda d: streams.zip_stream(Bytes(out.getvalue()), Wanted(WANTED), d)) == RIGHT


def test_a_damaged_zip_stream_says_so() -> None:
    data = bytearray(make_zip(MEMBERS, zipfile.ZIP_DEFLATED))
    data[len(data) // 3] ^= 255
    found: list[Found] = []
    with pytest.raises(Fault, match="damaged"):
        streams.zip_stream(Bytes(bytes(data)), Wanted(WANTED), found.append)
    assert 0 < len(found) < len(RIGHT)


def test_36_7z_reads_little_where_it_is_not_solid_and_all_where_it_is(tmp_path: Path) -> None:
    few = set(list(MEMBERS)[:2])
    for solid in (True, False):
        reader = Bytes(make_seven(tmp_path, solid))
        assert streams.kind_of(reader) == "7z"
        assert collect(lambda d, r=reader: seven_stream(r, Wanted(WANTED), d)) == RIGHT
        assert collect(lambda d, r=reader: seven_stream(r, Wanted(few), d)) == {
            name: MEMBERS[name] for name in few
        }


def test_37_volumes_and_a_missing_one(tmp_path: Path) -> None:
    data = make_seven(tmp_path, solid=True)
    cut = len(data) // 3
    volumes = {"/a.001": data[:cut], "/a.002": data[cut : 2 * cut], "/a.003": data[2 * cut :]}
    with Server(files_handler(volumes)) as server:
        whole = JoinedReader([http(f"{server.url}{path}") for path in volumes])
        assert collect(lambda d: seven_stream(whole, Wanted(WANTED), d)) == RIGHT
        missing = JoinedReader([http(f"{server.url}{p}") for p in ("/a.001", "/a.002", "/a.004")])
        with pytest.raises(Fault, match="404"):
            seven_stream(missing, Wanted(WANTED), lambda found: None)
    short = JoinedReader([Bytes(data[:cut]), Bytes(data[2 * cut :])])
    with pytest.raises(Fault, match="damaged"):
        seven_stream(short, Wanted(WANTED), lambda found: None)


@pytest.mark.slow
def test_an_encrypted_7z_wants_its_password(tmp_path: Path) -> None:
    data = make_seven(tmp_path, True, password="secret")
    got = collect(lambda d: seven_stream(Bytes(data), Wanted(WANTED), d, "secret"))
    assert got == RIGHT
    with pytest.raises(Fault, match="password"):
        seven_stream(Bytes(data), Wanted(WANTED), lambda found: None)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_33_a_nested_archive(tmp_path: Path, method: int) -> None:
    inner = gzip.compress(make_tar())
    reader = Bytes(make_zip({"readme.txt": b"x", "patched2019.tar.gz": inner}, method))
    found = streams.nested(reader, tmp_path)
    assert found is not None
    assert found.read(0, len(inner)) == inner
    assert streams.kind_of(found) == "gz"
    assert streams.nested(Bytes(make_zip(MEMBERS)), tmp_path) is None


def test_range_file_reads_blocks_once() -> None:
    data = bytes(range(256)) * 1000
    reader = Bytes(data)
    file = RangeFile(reader, block_bytes=1000, num_blocks=300)
    for place in (0, 5000, 100, 255_990, 0):
        file.seek(place)
        assert file.read(50) == data[place : place + 50]
    assert reader.num_bytes == 3000
    assert file.seek(-10, io.SEEK_END) == len(data) - 10
    assert file.read() == data[-10:]
    assert file.read(5) == b""
    assert io.BufferedReader(file).readable()
