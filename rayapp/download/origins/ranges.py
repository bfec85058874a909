"""Readers made of readers, and a seekable file over one for libraries that want a file."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from rayapp.download.origins.faults import Action, Fault
from rayapp.download.origins.reader import STREAM_BYTES, Pin, Reader


class LocalReader:
    """A local file as a `Reader`."""

    def __init__(self, path: Path):
        self.name = str(path)
        self._path = path

    def pin(self) -> Pin:
        """Size, and modification time as validator."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise Fault(Action.FAIL, f"{self.name}: {error.strerror}") from error
        return Pin(status.st_size, f'"{status.st_mtime_ns:x}"')

    def read(self, start: int, num_bytes: int) -> bytes:
        """Exactly `num_bytes` bytes from `start`."""
        try:
            with self._path.open("rb") as file:
                file.seek(start)
                data = file.read(num_bytes)
        except OSError as error:
            raise Fault(Action.FAIL, f"{self.name}: {error.strerror}") from error
        if len(data) != num_bytes:
            raise Fault(Action.CHANGED, f"{self.name}: shorter than its index says")
        return data

    def stream(self) -> Iterator[bytes]:
        """The whole file in order."""
        return pieces(self)


class JoinedReader:
    """Volumes (`name.7z.001`, `.002`, …) read as the one object they were cut from."""

    def __init__(self, volumes: Sequence[Reader]):
        self.name = volumes[0].name
        self._volumes = volumes
        self._starts: list[int] = []

    def pin(self) -> Pin:
        """Total size, the validators of all volumes; a missing volume raises its Fault."""
        pins = [volume.pin() for volume in self._volumes]
        sizes = list(accumulate((pin.num_bytes for pin in pins), initial=0))
        self._starts = sizes[:-1]
        return Pin(sizes[-1], " ".join(pin.etag for pin in pins))

    def read(self, start: int, num_bytes: int) -> bytes:
        """Exactly `num_bytes` bytes from `start`, across volumes."""
        if not self._starts:
            self.pin()
        parts = []
        while num_bytes:
            number = bisect_right(self._starts, start) - 1
            inside = start - self._starts[number]
            part_bytes = min(num_bytes, self._volumes[number].pin().num_bytes - inside)
            if part_bytes <= 0:
                raise Fault(Action.CHANGED, f"{self.name}: shorter than its index says")
            parts.append(self._volumes[number].read(inside, part_bytes))
            start, num_bytes = start + part_bytes, num_bytes - part_bytes
        return b"".join(parts)

    def stream(self) -> Iterator[bytes]:
        """All volumes in order."""
        for volume in self._volumes:
            yield from volume.stream()


class SliceReader:
    """A stretch of another object: an archive stored uncompressed in an archive."""

    def __init__(self, name: str, outer: Reader, start: int, num_bytes: int):
        self.name = name
        self._outer = outer
        self._start = start
        self._num_bytes = num_bytes

    def pin(self) -> Pin:
        """The stretch's size, the outer validator."""
        return Pin(self._num_bytes, self._outer.pin().etag)

    def read(self, start: int, num_bytes: int) -> bytes:
        """Exactly `num_bytes` bytes from `start`."""
        if start + num_bytes > self._num_bytes:
            raise Fault(Action.CHANGED, f"{self.name}: shorter than its index says")
        return self._outer.read(self._start + start, num_bytes)

    def stream(self) -> Iterator[bytes]:
        """The whole stretch in order."""
        return pieces(self)


def pieces(reader: Reader, start: int = 0) -> Iterator[bytes]:
    """What is left of an object from `start`, by bounded reads."""
    num_bytes = reader.pin().num_bytes
    while start < num_bytes:
        piece = reader.read(start, min(STREAM_BYTES, num_bytes - start))
        start += len(piece)
        yield piece


class RangeFile(io.RawIOBase):
    """A seekable read-only file over a reader, through a small cache of aligned blocks.

    The cache is what keeps seeking libraries (zran, 7z) from asking for the same bytes again: they
    read 2.5 × the file without one.
    """

    def __init__(self, reader: Reader, block_bytes: int = 1 << 20, num_blocks: int = 16):
        self.name = reader.name
        self.mode = "rb"
        self._reader = reader
        self._num_bytes = reader.pin().num_bytes
        self._block_bytes = block_bytes
        self._num_blocks = num_blocks
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move as `io.IOBase.seek` does."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._num_bytes}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes from the position, all the rest for a negative size."""
        left = max(self._num_bytes - self._position, 0)
        wanted = left if size is None or size < 0 else min(size, left)
        parts = []
        while wanted:
            number, inside = divmod(self._position, self._block_bytes)
            part = self._block(number)[inside : inside + wanted]
            parts.append(part)
            self._position += len(part)
            wanted -= len(part)
        return b"".join(parts)

    def readinto(self, buffer: object) -> int:
        """Fill `buffer` as `io.RawIOBase.readinto` does."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        start = number * self._block_bytes
        data = self._reader.read(start, min(self._block_bytes, self._num_bytes - start))
        self._blocks[number] = data
        if len(self._blocks) > self._num_blocks:
            self._blocks.popitem(last=False)
        return data
