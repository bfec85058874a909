"""Damaged and hostile files: no error, no long wait, little memory."""

import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest

from rayapp.dataset.declared import read_declared
from tests.dataset.declared.files import (
    A1111,
    exif,
    png_chunk,
    png_texts,
    saved,
    source_type,
    with_exif,
)
from tests.dataset.declared.test_declared import MADE

MOST_S = 0.05


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """The file cut off, with bytes changed, moved, or set to 255, mostly near its start."""
    changed = bytearray(data)
    head = min(len(data), int(rng.choice([64, 512, 4096, len(data)])))
    at, size = int(rng.integers(head)), int(rng.integers(1, 40))
    match rng.integers(4):
        case 0:
            for place in rng.integers(head, size=size):
                changed[place] = rng.integers(256)
        case 1:
            del changed[max(at, 4) :]
        case 2:
            changed[at : at + 4] = b"\xff" * 4
        case _:
            start = int(rng.integers(head))
            changed[at : at + size] = changed[start : start + size]
    return bytes(changed)


def sources() -> list[bytes]:
    rich = source_type("trainedAlgorithmicMedia")
    made = [one[1] for one in MADE] + [saved(kind, xmp=rich) for kind in ("JPEG", "WEBP", "AVIF")]
    try:
        from tests.dataset.declared.signed import KINDS, generated
    except ImportError:
        return made
    return made + [generated(kind) for kind in KINDS]


def test_damaged_files_are_read_in_no_time() -> None:
    """Some of the 3,000 that benchmarks/declared.py reads."""
    rng = np.random.default_rng(23)
    good = sources()
    read_declared(good[-1])  # what is imported on first use
    slow = []
    for number in range(600):
        data = damaged(good[number % len(good)], rng)
        start = time.process_time()
        read_declared(data, hidden=number % 50 == 0)
        slow.append(time.process_time() - start)
    assert max(slow) < MOST_S


def png(*chunks: bytes) -> bytes:
    start = b"\x89PNG\r\n\x1a\n"
    return start + b"".join(struct.pack(">I", len(one) - 4) + one + b"\0" * 4 for one in chunks)


XMP_CHUNK = b"iTXtXML:com.adobe.xmp\0\0\0\0\0"
BOMB = zlib.compress(b'{"a":[' + b"[]," * 4_000_000)
HOSTILE = {
    "empty chunks": b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0abcd\0\0\0\0" * 500_000,
    "empty segments": b"\xff\xd8\xff" + b"\xe9\0\2\xff" * 1_000_000,
    "small blocks": b"GIF89a\1\0\1\0\0\0\0!\xfe" + b"\1a" * 2_000_000,
    "empty blocks": b"GIF89a\1\0\1\0\0\0\0" + b"!\xfe\0" * 1_000_000,
    "bombs": png(*[b"zTXtprompt%d\0\0" % number + BOMB for number in range(20)]),
    "deep JSON": png(b"tEXtprompt\0" + b'{"a":' + b"[" * 900_000),
    "backtracking": png(b"tEXtDream\0" + b" -s 1 -S 1 -W 1 " * 60_000),
    "signed captions": png(b"tEXtcomment\0" + b"created with " * 80_000),
    "many steps": png(b"tEXtparameters\0" + b", Steps: 11111111111" * 50_000),
    "deep XMP": png(XMP_CHUNK + b'<x:x xmlns:x="a">' + b"<a>" * 400_000),
    "wide XMP": png(XMP_CHUNK + b'<x:x xmlns:x="a">' + b'<a b="c"/>' * 190_000),
    "entities": png(
        XMP_CHUNK + b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>' + b"&b;" * 99_999
    ),
    "endless directory": b"II*\0\x08\0\0\0\xff\xff"
    + b"\x31\1\2\0\xff\xff\xff\x7f\0\0\0\0" * 65_535,
    "boxes": b"\0\0\0\x1cftypavif" + b"\0" * 16 + b"\0\0\0\x08free" * 500_000,
    "many items": b"\0\0\0\x1cftypheic" + b"\0" * 16 + b"\xff\xff\xff\xffmeta" + b"\0" * 4,
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_files_end_at_a_bound(name: str) -> None:
    start = time.process_time()
    found = read_declared(HOSTILE[name])
    # Twice the bound, as the machine may be loaded; without bounds they took up to seconds.
    assert time.process_time() - start < 3 * MOST_S
    assert found.kind == "nothing"


def test_memory_stays_within_its_bound_in_a_process_of_its_own() -> None:
    code = (
        "import resource, sys\n"
        "from rayapp.dataset.declared import read_declared\n"
        "from tests.dataset.declared.test_damaged import HOSTILE\n"
        "for name in ('bombs', 'wide XMP', 'deep XMP', 'deep JSON'):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    read_declared(HOSTILE[name])\n"
        "    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "    assert grown < 50_000, (name, grown)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_cut_of_a_few_files_is_read() -> None:
    files = [
        png_texts({"parameters": A1111}),
        with_exif("JPEG", {271: "Canon"}, b"ASCII\0\0\0abc"),
        png_chunk(saved("PNG"), b"eXIf", exif({305: "GIMP"})[6:]),
    ]
    for data in files:
        assert read_declared(data).kind != "nothing"
        for size in range(0, min(len(data), 700), 3):
            read_declared(data[:size])
