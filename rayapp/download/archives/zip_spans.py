"""Fetch many ZIP members with few requests: neighbours are read together, spans in parallel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rayapp.download.archives import zips
from rayapp.download.archives.zips import Member
from rayapp.download.origins.faults import Action, Fault
from rayapp.download.origins.reader import Reader

GAP_BYTES = 64 << 10
SPAN_BYTES = 4 << 20
DENSE = 0.5  # from this share of an archive on, one pass over it moves little more


class Span(NamedTuple):
    """One request: the bytes [start, stop) and the members that lie in them, by offset."""

    start: int
    stop: int
    members: tuple[Member, ...]


def coalesce(
    members: Iterable[Member], gap_bytes: int = GAP_BYTES, span_bytes: int = SPAN_BYTES
) -> list[Span]:
    """Spans that cover all members: a gap of up to `gap_bytes` is read rather than asked around.

    Merge when gap < bandwidth × cost of a request; the cost is latency over parallelism, or on a
    metered origin the quota. A span ends at `span_bytes` unless one member alone is larger.
    """
    spans: list[Span] = []
    run: list[Member] = []
    stop = 0
    for member in sorted(members, key=lambda each: each.offset):
        end = member.offset + member.room
        far = run and member.offset - stop > gap_bytes
        full = run and end - run[0].offset > span_bytes
        if far or full:
            spans.append(Span(run[0].offset, stop, tuple(run)))
            run = []
        stop = max(stop, end) if run else end
        run.append(member)
    if run:
        spans.append(Span(run[0].offset, stop, tuple(run)))
    return spans


def is_dense(members: Iterable[Member], archive_bytes: int) -> bool:
    """Whether more than half of the archive is wanted."""
    return sum(member.csize for member in members) > DENSE * archive_bytes


def read_span(reader: Reader, span: Span) -> Iterator[tuple[Member, bytes | Fault]]:
    """Each member of the span with its content, or with the fault that kept it away.

    A member that does not check is read once more by itself before it is given up: a bit that
    flipped on the way must not cost the image, nor its neighbours a second reading.
    """
    try:
        size = reader.pin().num_bytes
        data = memoryview(reader.read(span.start, min(span.stop, size) - span.start))
    except Fault as fault:
        yield from ((member, fault) for member in span.members)
        return
    for member in span.members:
        try:
            yield member, _cut(reader, member, data, member.offset - span.start)
        except Fault as fault:
            yield member, _again(reader, member) if fault.action is Action.RETRY else fault


def _cut(reader: Reader, member: Member, data: memoryview, at: int) -> bytes:
    start = at + zips.data_start(data[at : at + 30])
    stop = start + member.csize
    if stop <= len(data):
        return zips.decode(member, data[start:stop])
    have = max(start, len(data))
    rest = reader.read(member.offset - at + have, stop - have)
    return zips.decode(member, bytes(data[start:]) + rest)


def _again(reader: Reader, member: Member) -> bytes | Fault:
    try:
        room = min(member.room, reader.pin().num_bytes - member.offset)
        data = memoryview(reader.read(member.offset, room))
        return _cut(reader, member, data, 0)
    except Fault as fault:
        return Fault(Action.FAIL, f"{fault.reason} (read twice)")
