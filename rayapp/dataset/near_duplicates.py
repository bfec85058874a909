"""Which images two sets share: by path, by bytes, by look; and which of one set look alike.

Near-duplicates are perceptual hashes (`images.perceptual_hash`, 256 bits) at most `NEAR_BITS`
apart. They are found exactly, without comparing all pairs, by multi-index hashing (Norouzi, Punjani
and Fleet, CVPR 2012): of 16 substrings at least one differs by at most distance // 16 bits.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse.csgraph
from numpy.typing import NDArray

from rayapp.dataset.labels import item_id

# On 26 pictures copies that were re-encoded, resized or brightened lay at most 12 bits apart, those
# cropped by 2 % mostly within 22, and different pictures from 76 on (tests/dataset/test_images.py).
NEAR_BITS = 24
_HEX = 64  # digits of a hash
_BANDS, _BAND_BITS = 16, 16
_MOST_BITS = 2 * _BANDS - 1  # with one flipped bit a band
_CHUNK = 1 << 20  # candidates compared at once: 64 MB

How = Literal["path", "sha256", "near"]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Found = tuple[Ints, Ints, Ints]

SHARED = pa.schema(
    {"path": pa.string(), "other": pa.string(), "how": pa.string(), "distance": pa.int32()}
)


def same_paths(first: Iterable[str], second: Iterable[str]) -> list[str]:
    """The annotated paths that stand in both, as ids, sorted; `./` and Unicode form aside."""
    return sorted({item_id(path) for path in first} & {item_id(path) for path in second})


def same_bytes(first: pa.Table, second: pa.Table) -> pa.Table:
    """The images of `first` whose sha256 an image of `second` has (`SHARED`, how `sha256`).

    Both are manifests: columns `path` and `sha256`; rows without a hash share nothing.
    """
    known = _known(second, "sha256")
    at = dict(zip(known["sha256"].to_pylist(), known["path"].to_pylist(), strict=True))
    rows = [
        (path, at[value])
        for path, value in zip(first["path"].to_pylist(), first["sha256"].to_pylist(), strict=True)
        if value in at
    ]
    return _table(rows, "sha256", [0] * len(rows))


def near_duplicates(first: pa.Table, second: pa.Table, bits: int = NEAR_BITS) -> pa.Table:
    """The images of `first` that look like one of `second` (`SHARED`, how `near`): the nearest one.

    Both are manifests: columns `path` and `perceptual_hash`; rows without a hash are like nothing.

    Raises:
        ValueError: more bits than the search can promise (31), or a hash that is none.
    """
    mine, theirs = _known(first, "perceptual_hash"), _known(second, "perceptual_hash")
    nearest, distance = nearest_hashes(
        mine["perceptual_hash"].to_pylist(), theirs["perceptual_hash"].to_pylist(), bits
    )
    hit = np.flatnonzero(nearest >= 0)
    paths, others = mine["path"].to_pylist(), theirs["path"].to_pylist()
    rows = [(paths[i], others[nearest[i]]) for i in hit]
    return _table(rows, "near", distance[hit].tolist())


def shared(first: pa.Table, second: pa.Table, bits: int = NEAR_BITS) -> pa.Table:
    """Every image of `first` that is also in `second`, once, by the plainest of three ways.

    Args:
        first: a manifest: `path` and, where known, `sha256` and `perceptual_hash`.
        second: likewise; a way for which either lacks the column finds nothing.
        bits: the distance up to which hashes count as one look.

    Returns:
        `SHARED`: `path` of the first, `other` of the second, `how` (path, sha256, near) and
        `distance` in bits, sorted by path.
    """
    paths = set(same_paths(first["path"].to_pylist(), second["path"].to_pylist()))
    stand = [path for path in first["path"].to_pylist() if item_id(path) in paths]
    found = [_table([(path, item_id(path)) for path in stand], "path", [0] * len(stand))]
    for column, way in (("sha256", same_bytes), ("perceptual_hash", near_duplicates)):
        if column in first.column_names and column in second.column_names:
            left = _without(first, pa.concat_tables(found)["path"])
            found.append(
                near_duplicates(left, second, bits) if way is near_duplicates else way(left, second)
            )
    return pa.concat_tables(found).sort_by("path")


def nearest_hashes(first: list[str], second: list[str], bits: int = NEAR_BITS) -> tuple[Ints, Ints]:
    """For each hash of `first` [N] the nearest of `second` within `bits`: position or -1, bits."""
    mine, mine_at = _distinct(first)
    theirs, theirs_at = _distinct(second)
    nearest = np.full(len(mine), -1, np.int64)
    distance = np.full(len(mine), bits + 1, np.int64)
    for i, j, apart in _within(mine, theirs, bits):
        order = np.lexsort((j, apart, i))  # of equally near ones the first: chunks don't matter
        i, j, apart = i[order], j[order], apart[order]
        first_of = np.flatnonzero(np.diff(i, prepend=-1))
        i, j, apart = i[first_of], j[first_of], apart[first_of]
        better = (apart < distance[i]) | ((apart == distance[i]) & (j < nearest[i]))
        nearest[i[better]], distance[i[better]] = j[better], apart[better]
    position = np.full(len(theirs), len(second), np.int64)
    np.minimum.at(position, theirs_at, np.arange(len(second)))
    there = np.where(nearest >= 0, position[nearest] if len(theirs) else -1, -1)
    return there[mine_at], distance[mine_at]


def clusters(hashes: list[str | None], bits: int = NEAR_BITS) -> Ints:
    """For each hash the number of its cluster [N]: linked by pairs within `bits`, in one chain.

    A cluster's number is the position of its first member; None is alone.
    """
    at = [k for k, value in enumerate(hashes) if value]
    words, code = _distinct([value for value in hashes if value])
    label = np.arange(len(words))
    for i, j, _ in _within(words, words, bits):
        label = _merged(label, label[i], label[j])
    found = np.arange(len(hashes))
    if at:
        members = label[code]
        first = np.full(len(words), len(hashes), np.int64)
        np.minimum.at(first, members, np.asarray(at))
        found[at] = first[members]
    return found


def pictures(hashes: list[str | None], sha256s: list[str | None]) -> Ints:
    """For each image the position of the first file of its picture [N]: equal bytes, or alike.

    Images without a look (flat, or broken) are one picture where their bytes are equal; those of
    which no bytes are known either are alone.
    """
    first: dict[str, int] = {}
    looks = zip(clusters(hashes), hashes, sha256s, strict=True)
    return np.asarray(
        [
            first.setdefault(digest, at) if digest and not known else look
            for at, (look, known, digest) in enumerate(looks)
        ],
        np.int64,
    )


def bits_apart(one: str | None, other: str | None) -> int:
    """How many bits of two hashes differ; of an image without a hash all are 0."""
    return (int(one or "0", 16) ^ int(other or "0", 16)).bit_count()


def _merged(label: Ints, one: Ints, other: Ints) -> Ints:
    """The labels after each `one` was joined with its `other`."""
    size = len(label)
    links = scipy.sparse.coo_matrix((np.ones(len(one), bool), (one, other)), (size, size))
    _, joined = scipy.sparse.csgraph.connected_components(links, directed=False)
    return np.asarray(joined, np.int64)[label]


def _distinct(hashes: list[str]) -> tuple[Words, Ints]:
    """Different hashes as words [U, 4], in order, and each hash's place among them [N]."""
    if any(len(text) != _HEX for text in hashes):
        raise ValueError(f"a perceptual hash has {_HEX} hex digits")
    packed = np.frombuffer(bytes.fromhex("".join(hashes)), dtype="V32")
    values, code = np.unique(packed, return_inverse=True)
    return values.view(">u8").reshape(-1, 4).astype(np.uint64), code.astype(np.int64)


def _within(mine: Words, theirs: Words, bits: int) -> Iterator[Found]:
    """(row of mine, row of theirs, distance) of pairs at most `bits` apart, some more than once."""
    if not 0 <= bits <= _MOST_BITS:
        raise ValueError(f"the search promises 0 to {_MOST_BITS} bits, not {bits}")
    flips = [0] + [1 << k for k in range(_BAND_BITS) if bits >= _BANDS]
    for band in range(_BANDS if len(mine) and len(theirs) else 0):
        keys, others = _band(mine, band), _band(theirs, band)
        order = np.argsort(others, kind="stable")
        starts = np.zeros((1 << _BAND_BITS) + 1, np.int64)
        np.cumsum(np.bincount(others, minlength=1 << _BAND_BITS), out=starts[1:])
        for flip in flips:
            probes = keys ^ flip
            yield from _compared(
                mine, theirs[order], order, starts[probes], starts[probes + 1], bits
            )


def _band(words: Words, band: int) -> Ints:
    """The band's 16 bits of every hash, as numbers [N]."""
    word, part = divmod(band, 64 // _BAND_BITS)
    shifted = words[:, word] >> np.uint64(part * _BAND_BITS)
    return (shifted & np.uint64(0xFFFF)).astype(np.int64)


def _compared(
    mine: Words, theirs: Words, order: Ints, start: Ints, end: Ints, bits: int
) -> Iterator[Found]:
    """Each row of `mine` against its range of `theirs`, a bounded number of pairs at once."""
    counts = end - start
    total = np.concatenate([[0], np.cumsum(counts)])
    low = 0
    while low < len(mine):
        high = max(low + 1, int(np.searchsorted(total, total[low] + _CHUNK, side="right")) - 1)
        i = np.repeat(np.arange(low, high), counts[low:high])
        j = np.arange(total[low], total[high]) + (start - total[:-1])[i]
        apart = np.bitwise_count(mine[i] ^ theirs[j]).sum(axis=1, dtype=np.uint16)
        near = np.flatnonzero(apart <= bits)
        if len(near):
            yield i[near], order[j[near]], apart[near].astype(np.int64)
        low = high


def _known(table: pa.Table, column: str) -> pa.Table:
    return table.filter(pc.and_kleene(pc.is_valid(table[column]), pc.not_equal(table[column], "")))


def _without(table: pa.Table, paths: pa.ChunkedArray) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table["path"], value_set=paths.combine_chunks())))


def _table(rows: list[tuple[str, str]], how: How, distance: list[int]) -> pa.Table:
    first, second = [row[0] for row in rows], [row[1] for row in rows]
    return pa.table([first, second, [how] * len(rows), distance], schema=SHARED)
