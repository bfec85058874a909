import itertools
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayapp.dataset.near_duplicates import (
    NEAR_BITS,
    bits_apart,
    clusters,
    near_duplicates,
    nearest_hashes,
    pictures,
    same_bytes,
    same_paths,
    shared,
)


def apart(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


def flipped(value: int, bits: list[int]) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


@st.composite
def families(draw):
    """Hashes in families: some random ones, and others a few bits from them."""
    seeds = draw(st.lists(st.integers(0, 2**256 - 1), min_size=1, max_size=4))
    step = st.lists(st.integers(0, 255), max_size=40, unique=True)
    grown = draw(st.lists(st.tuples(st.integers(0, len(seeds) - 1), step), max_size=12))
    return [f"{value:064x}" for value in seeds + [flipped(seeds[k], bits) for k, bits in grown]]


@given(families(), families(), st.integers(0, 31))
def test_the_nearest_is_the_one_that_comparing_all_pairs_finds(first, second, bits):
    second = second + first[::2]
    position, distance = nearest_hashes(first, second, bits)
    for mine, at, found in zip(first, position, distance, strict=True):
        best = min(apart(mine, other) for other in second)
        assert (at >= 0) == (best <= bits)
        if best <= bits:
            assert found == best == apart(mine, second[at])


@given(families(), st.integers(0, 31))
def test_clusters_are_the_components_of_all_pairs(hashes, bits):
    expected = list(range(len(hashes)))
    for i, j in itertools.combinations(range(len(hashes)), 2):
        if apart(hashes[i], hashes[j]) <= bits:
            low, high = sorted((expected[i], expected[j]))
            expected = [low if label == high else label for label in expected]
    assert clusters(list(hashes), bits).tolist() == expected


def test_what_has_no_hash_is_alone():
    one = "0" * 64
    assert clusters([None, one, None, one]).tolist() == [0, 1, 2, 1]
    assert clusters([]).tolist() == []


def test_one_picture_is_equal_bytes_or_one_look():
    one, near, far = "0" * 64, "0" * 63 + "1", "f" * 64
    looks = [None, one, None, near, far, None, None]
    digests = ["a", "b", "a", "c", "d", None, None]
    assert pictures(looks, digests).tolist() == [0, 1, 0, 1, 4, 5, 6]
    assert (bits_apart(one, near), bits_apart(None, far)) == (1, 256)


def test_more_bits_than_the_search_promises_are_refused():
    with pytest.raises(ValueError, match="31"):
        nearest_hashes(["0" * 64], ["0" * 64], 32)
    with pytest.raises(ValueError, match="64 hex digits"):
        nearest_hashes(["0" * 16], ["0" * 64])


def test_ten_thousand_hashes_are_searched_whole():
    """Planted pairs at every distance among random hashes; none is missed and none made up."""
    rng = random.Random(0)
    first = [rng.getrandbits(256) for _ in range(10_000)]
    second = [rng.getrandbits(256) for _ in range(10_000)]
    for k in range(200):
        second[k * 7] = flipped(first[k], rng.sample(range(256), k % 40))
    position, distance = nearest_hashes(
        [f"{v:064x}" for v in first], [f"{v:064x}" for v in second], NEAR_BITS
    )
    planted = [k for k in range(200) if k % 40 <= NEAR_BITS]
    assert np.flatnonzero(position >= 0).tolist() == planted
    assert position[planted].tolist() == [k * 7 for k in planted]
    assert distance[planted].tolist() == [k % 40 for k in planted]


def manifest(*rows):
    names = ("path", "sha256", "perceptual_hash")
    return pa.table({name: [row[k] for row in rows] for k, name in enumerate(names)})


def test_each_shared_image_is_named_once_by_the_plainest_way():
    look = "f" * 64
    first = manifest(
        ("./a.png", "1", look),
        ("b.png", "2", look),
        ("c.png", "3", look[:-1] + "e"),
        ("d.png", "4", "0" * 64),
        ("e.png", None, None),
    )
    second = manifest(("a.png", "1", look), ("x.png", "2", None), ("y.png", None, look))
    found = [tuple(row.values()) for row in shared(first, second).to_pylist()]
    assert found == [
        ("./a.png", "a.png", "path", 0),
        ("b.png", "x.png", "sha256", 0),
        ("c.png", "a.png", "near", 1),
    ]
    assert same_bytes(first, second).num_rows == 2
    assert near_duplicates(first, second).num_rows == 3
    only_paths = shared(first.select(["path"]), second.select(["path"]))
    assert only_paths["path"].to_pylist() == ["./a.png"]


def test_paths_are_the_same_whatever_their_unicode_form():
    assert same_paths(["./cafe\u0301.png", "b"], ["caf\u00e9.png", "c"]) == ["caf\u00e9.png"]
