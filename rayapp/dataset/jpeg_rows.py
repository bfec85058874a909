"""The first rows of a JPEG file as a file of its own, so that a decoder stops after them.

A JPEG's blocks follow one another from top to bottom in each of its scans, and its header says how
many rows there are. With fewer named there, any decoder gives these and leaves the rest of each
scan alone: their pixels are those of the whole file, but near to the new lower edge, which is
why some more rows are kept than are asked for.
"""

import struct
from dataclasses import dataclass

import numpy as np

_SOF = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, Huffman-coded
_SOS, _EOI, _DNL = 0xDA, 0xD9, 0xDC
_BETWEEN = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}  # tables, comments, application data
_BLOCK = 8
# Upsampled colours look one row of blocks on; what smooths an unfinished progressive file, two.
_MARGIN = 3
_WORTH = 0.9  # of the rows: to leave out fewer gains nothing


@dataclass(frozen=True)
class _Frame:
    """Where a JPEG's height stands, how many rows it names, and rows of a unit of its scans."""

    at: int
    height: int
    unit: int


def first_rows(data: bytes, rows: int) -> bytes | None:
    """A file whose decoded first `rows` rows are those of this JPEG file; None: take it whole.

    None is also said of any file but a whole Huffman-coded one, whose scans hold what they should:
    so that what fails to decode as a whole fails still.
    """
    found = _whole_frame(data)
    if found is None:
        return None
    kept = (-(-rows // found.unit) + _MARGIN) * found.unit
    if kept > _WORTH * found.height:
        return None
    return b"".join((data[: found.at], struct.pack(">H", kept), data[found.at + 2 :]))


def _whole_frame(data: bytes) -> _Frame | None:
    """The frame of a JPEG whose one image lasts to its end mark, whatever stands after that."""
    if data[:2] != b"\xff\xd8":
        return None
    at, frame, marks = 2, None, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _EOI:
            return frame if marks is not None else None
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _SOF and frame is None:
            frame = _frame(data, at)
        elif marker == _SOS and frame is not None:
            if marks is None:
                marks = _marks(data, at + 2 + length)
            after = marks[np.searchsorted(marks, at + 2 + length) :]
            if not after.size:
                return None
            at = int(after[0])
            if at + 2 == len(data):  # the end mark is the file's last
                return frame if data[at + 1] == _EOI else None
            continue
        elif marker not in _BETWEEN:
            return None
        at += 2 + length
    return None


def _frame(data: bytes, at: int) -> _Frame | None:
    bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
    sampling = data[at + 11 : at + 10 + 3 * components : 3]
    if bits != _BLOCK or not height * width or len(sampling) != components:
        return None
    return _Frame(at + 5, height, _BLOCK * max(one & 15 for one in sampling))


def _marks(data: bytes, start: int) -> np.ndarray:
    """Where in the file, from `start` on, marks stand that end a scan."""
    scan = np.frombuffer(data, np.uint8)[start:]
    marks = np.flatnonzero(scan[:-1] == 0xFF)
    after = scan[marks + 1]
    # 0 says that 255 is meant, D0 to D7 are restarts, and before a mark any number of FF may stand.
    ends = (after != 0) & ((after < 0xD0) | (after > 0xD7)) & (after != 0xFF)
    return np.asarray(marks[ends] + start)
