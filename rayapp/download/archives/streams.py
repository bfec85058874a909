"""Archives read in one pass: ZIP without ranges, tar and tgz with resume points, 7z.

Nothing is ever extracted by an archive's own name: a member either answers to a wanted name, and
its bytes are handed to `deliver`, or it is passed over. Links and devices are never followed.
"""

from __future__ import annotations

import io
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import indexed_gzip
from stream_unzip import NotStreamUnzippable, PasswordError, UnzipError, stream_unzip

from rayapp.download.archives import zips
from rayapp.download.archives.names import Wanted
from rayapp.download.archives.zips import MAX_MEMBER_BYTES
from rayapp.download.origins.faults import Action, Fault
from rayapp.download.origins.ranges import LocalReader, RangeFile, SliceReader
from rayapp.download.origins.reader import Reader
from rayapp.storage.disk import scratch_folder

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".7z")
_GZIP_BLOCK_BYTES = 1 << 20
_SAVE_EVERY_BYTES = 32 << 20
_GZIP_ERRORS = (indexed_gzip.ZranError, indexed_gzip.NotCoveredError, EOFError, OSError)


class Found(NamedTuple):
    """A wanted member that was reached: its content, or why there is none."""

    name: str
    member: str
    offset: int
    content: bytes | Fault


Deliver = Callable[[Found], None]


class ResumePoint(NamedTuple):
    """Where a tar stream can be taken up: offset of the next header, and the gzip seek index."""

    offset: int
    gzip_index: bytes


def kind_of(reader: Reader) -> str:
    """`zip`, `7z`, `gz` or `tar`, by the first bytes and not by the name; raises Fault."""
    try:
        size = reader.pin().num_bytes
        head = reader.read(0, min(512, size))
    except Fault as fault:
        if fault.action is not Action.STREAM:
            raise
        head = next(reader.stream(), b"")
    if head.startswith(b"7z\xbc\xaf\x27\x1c"):
        return "7z"
    if head.startswith(b"\x1f\x8b"):
        return "gz"
    if head[257:262] == b"ustar":
        return "tar"
    if head.startswith(b"PK"):
        return "zip"
    try:
        zips.locate(reader)
    except Fault as fault:
        raise Fault(Action.FAIL, f"{reader.name}: neither ZIP, tar, tgz nor 7z") from fault
    return "zip"


def zip_stream(reader: Reader, wanted: Wanted, deliver: Deliver, password: str = "") -> None:
    """Every wanted member of a ZIP that is encrypted or whose server has no ranges, in one pass.

    CRC-32 (of AES the authentication code) is checked by the decoder. A ZIP that cannot be
    streamed (stored members whose sizes follow them) is spooled to disk.

    Raises:
        Fault: the archive is cut or damaged, or the password wrong; what was delivered stands.
    """
    left = set(wanted.names)
    try:
        for raw, size, chunks in stream_unzip(reader.stream(), password=password.encode() or None):
            name = wanted.find(raw, True)
            if name is None or (size or 0) > MAX_MEMBER_BYTES:
                for _ in chunks:
                    pass
                continue
            left.discard(name)
            deliver(Found(name, raw.decode("utf-8", "replace"), 0, b"".join(chunks)))
    except NotStreamUnzippable:
        with scratch_folder() as folder:
            local = spooled(reader, Path(folder, "archive.zip"))
            zip_by_index(local, Wanted(left, wanted.by_name), deliver)
    except PasswordError as error:
        raise Fault(Action.FAIL, f"{reader.name}: wrong or missing password") from error
    except UnzipError as error:
        raise Fault(Action.FAIL, f"{reader.name}: damaged: {type(error).__name__}") from error


def zip_by_index(reader: Reader, wanted: Wanted, deliver: Deliver) -> None:
    """Every wanted member of a ZIP that is at hand, one after the other."""
    for member in zips.read_index(reader, wanted).members:
        refusal = zips.refusal(member)
        content: bytes | Fault = Fault(Action.FAIL, refusal)
        if not refusal:
            try:
                data = reader.read(member.offset, member.room - zips.SLACK_BYTES)
                content = zips.decode(member, data[zips.data_start(data) :][: member.csize])
            except Fault as fault:
                content = fault
        deliver(Found(member.name, member.name, member.offset, content))


def spooled(reader: Reader, path: Path) -> LocalReader:
    """The whole object in a local file, for what can be read in no other way."""
    with path.open("wb") as file:
        for piece in reader.stream():
            file.write(piece)
    return LocalReader(path)


class _Pieces(io.RawIOBase):
    """A read-only file over an iterator of pieces."""

    def __init__(self, source: Iterator[bytes]):
        self._source = source
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        while not self._rest:
            piece = next(self._source, None)
            if piece is None:
                return 0
            self._rest = piece
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def tar_stream(
    reader: Reader,
    wanted: Wanted,
    deliver: Deliver,
    *,
    gzipped: bool,
    resume: ResumePoint | None = None,
    save: Callable[[ResumePoint], None] = lambda point: None,
    save_every_s: float = 10.0,
    spacing_bytes: int = 32 << 20,
) -> None:
    """Every wanted member of a tar or tgz in one pass, taken up at `resume`.

    `save` is called after all members before a point were delivered. Without ranges there is no
    resuming: the pass starts at the beginning.

    Raises:
        Fault: the archive is cut or damaged; what was delivered before stands.
    """
    if not _has_ranges(reader):
        with tarfile.open(
            fileobj=io.BufferedReader(_Pieces(reader.stream()), 1 << 20), mode="r|*"
        ) as tar:
            _walk(reader.name, tar, 0, wanted, deliver, lambda offset: None)
        return
    base = resume.offset if resume else 0
    file: Any = _unzipped(reader, resume, spacing_bytes) if gzipped else RangeFile(reader)
    saved_s, saved_at = time.monotonic(), 0

    def passed(offset: int) -> None:
        nonlocal saved_s, saved_at
        soon = time.monotonic() - saved_s < save_every_s
        if soon and offset - saved_at < _SAVE_EVERY_BYTES:
            return
        index = io.BytesIO()
        if gzipped:
            file.export_index(fileobj=index)
        save(ResumePoint(base + offset, index.getvalue()))
        saved_s, saved_at = time.monotonic(), offset

    try:
        file.seek(base)
        with tarfile.open(fileobj=file, mode="r|", bufsize=1 << 20) as tar:
            _walk(reader.name, tar, base, wanted, deliver, passed)
    except (*_GZIP_ERRORS, tarfile.TarError) as error:  # tarfile reads a header when it opens
        raise Fault(Action.FAIL, f"{reader.name}: damaged or cut: {error}") from error


def _unzipped(reader: Reader, resume: ResumePoint | None, spacing_bytes: int) -> Any:
    """What is inside of a gzip file; each of its bytes is asked for once."""
    # It decodes a buffer at a time (by itself four times the spacing), each from the last point
    # before it, and sees a point when it decodes the next: what it reads again must be in memory.
    at_once = max(1, spacing_bytes // 2)
    held = 2 + (spacing_bytes + at_once) // _GZIP_BLOCK_BYTES
    file = indexed_gzip.IndexedGzipFile(
        fileobj=RangeFile(reader, _GZIP_BLOCK_BYTES, held),
        spacing=spacing_bytes,
        buffer_size=at_once,
    )
    if resume:
        file.import_index(fileobj=io.BytesIO(resume.gzip_index))
    return file


def _has_ranges(reader: Reader) -> bool:
    try:
        reader.pin()
    except Fault as fault:
        if fault.action is not Action.STREAM:
            raise
        return False
    return True


def _walk(
    name: str,
    tar: tarfile.TarFile,
    base: int,
    wanted: Wanted,
    deliver: Deliver,
    passed: Callable[[int], None],
) -> None:
    try:
        for info in tar:
            key = wanted.find(info.name.removeprefix("./").encode(), True)
            if key is not None:
                deliver(Found(key, info.name, base + info.offset, _tar_content(tar, info)))
            tar.members.clear()  # type: ignore[attr-defined]  # the stream is never read again; a long one must not fill memory
            passed(info.offset_data + (info.size + 511) // 512 * 512 if info.isreg() else 0)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise Fault(Action.FAIL, f"{name}: damaged or cut: {error}") from error


def _tar_content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes | Fault:
    if not info.isreg():
        return Fault(Action.FAIL, f"{info.name}: a link or device, not a file")
    if info.size > MAX_MEMBER_BYTES:
        return Fault(Action.FAIL, f"{info.name}: {info.size} bytes are more than a file may have")
    file = tar.extractfile(info)
    content = file.read() if file else b""
    if len(content) != info.size:
        return Fault(Action.FAIL, f"{info.name}: the archive is cut in this member")
    return content


def nested(reader: Reader, folder: Path, inner: str = "") -> Reader | None:
    """The archive inside a ZIP that holds hardly anything else, None where there is no such one.

    Stored it is read in place; compressed it is spooled into `folder`.
    """
    directory = zips.locate(reader)
    if directory.num_entries > 64 and not inner:
        return None
    with zipfile.ZipFile(io.BufferedReader(RangeFile(reader))) as archive:
        for info in archive.infolist():
            if info.filename != inner and not info.filename.lower().endswith(ARCHIVE_SUFFIXES):
                continue
            if inner and info.filename != inner:
                continue
            name = f"{reader.name}!{info.filename}"
            if info.compress_type == zipfile.ZIP_STORED:
                start = info.header_offset + zips.data_start(reader.read(info.header_offset, 30))
                return SliceReader(name, reader, start, info.file_size)
            target = folder / "inner"
            with archive.open(info) as source, target.open("wb") as file:
                while piece := source.read(1 << 20):
                    file.write(piece)
            return LocalReader(target)
    return None
