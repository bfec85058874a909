"""7z archives: random access where they are not solid, else one pass."""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Callable
from typing import IO, cast

import py7zr
from py7zr.exceptions import ArchiveError, PasswordRequired
from py7zr.io import Py7zIO, WriterFactory

from rayapp.download.archives.names import Wanted
from rayapp.download.archives.streams import Deliver, Found
from rayapp.download.archives.zips import MAX_MEMBER_BYTES
from rayapp.download.origins.faults import Action, Fault
from rayapp.download.origins.ranges import RangeFile
from rayapp.download.origins.reader import Reader


class _Member(Py7zIO):
    """Collects one 7z member; checked and delivered when the decoder closes it."""

    def __init__(self, done: Callable[[bytes], None]):
        self._parts = io.BytesIO()
        self._done = done

    def write(self, s: bytes | bytearray) -> int:
        return self._parts.write(s)

    def read(self, size: int | None = None) -> bytes:
        return self._parts.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._parts.seek(offset, whence)

    def flush(self) -> None:
        return None

    def size(self) -> int:
        return self._parts.getbuffer().nbytes

    def close(self) -> None:
        self._done(self._parts.getvalue())


class _Members(WriterFactory):
    def __init__(self, names: dict[str, str], crcs: dict[str, int | None], deliver: Deliver):
        self._names, self._crcs, self._deliver = names, crcs, deliver

    def create(self, filename: str) -> Py7zIO:
        def done(content: bytes) -> None:
            name = self._names.pop(filename, None)
            if name is None:
                return
            crc = self._crcs[filename]
            good = crc is None or zlib.crc32(content) == crc
            fault = Fault(Action.FAIL, "the CRC-32 is not the recorded one")
            self._deliver(Found(name, filename, 0, content if good else fault))

        return _Member(done)


def seven_stream(reader: Reader, wanted: Wanted, deliver: Deliver, password: str = "") -> None:
    """Every wanted member of a 7z: random access where it is not solid, else one pass.

    py7zr reads the folders that hold a target and no others, so both follow from the layout.
    """
    file = cast(IO[bytes], RangeFile(reader, 1 << 20))
    try:
        with py7zr.SevenZipFile(file, "r", password=password or None) as seven:
            names: dict[str, str] = {}
            crcs: dict[str, int | None] = {}
            for info in seven.list():
                key = None if info.is_directory else wanted.find(info.filename.encode(), True)
                if key is None:
                    continue
                if info.uncompressed > MAX_MEMBER_BYTES:
                    deliver(Found(key, info.filename, 0, Fault(Action.FAIL, "a bomb: too large")))
                    continue
                names[info.filename] = key
                crcs[info.filename] = info.crc32
            if names:
                factory = _Members(names, crcs, deliver)
                seven.extract(targets=list(names), factory=factory)
    except PasswordRequired as error:
        raise Fault(Action.FAIL, f"{reader.name}: wrong or missing password") from error
    except (ArchiveError, lzma.LZMAError, EOFError, OSError, zlib.error) as error:
        note = "wrong password, or damaged" if password else "damaged or cut"
        raise Fault(
            Action.FAIL, f"{reader.name}: {note}: {type(error).__name__} {error}"
        ) from error
