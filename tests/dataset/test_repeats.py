"""Files of equal bytes: the same of one table as of its parts."""

import numpy as np
import pyarrow as pa

from rayapp.dataset.repeats import MOST, Repeats, by_hash, repeats_in, repeats_of, together


def images(count: int, seed: int = 0, kinds: int = 0) -> pa.Table:
    """Images under so many hashes, some of them without one, each labelled by a coin."""
    rng = np.random.default_rng(seed)
    hashes = [f"{one:064x}" for one in rng.integers(0, kinds or count, count)]
    hashes[::17] = [None] * len(hashes[::17])  # type: ignore[list-item]
    paths = [f"{at:05d}.png" for at in range(count)]
    return pa.table(
        {
            "path": paths,
            "sha256": pa.array(hashes, pa.string()),
            "origin": pa.array(rng.integers(0, 2, count), pa.int16()),
        }
    )


def test_of_parts_it_is_what_it_is_of_the_whole():
    whole = images(3000)
    parts = [whole.slice(at, 170) for at in range(0, 3000, 170)]
    found = repeats_of([whole])
    assert repeats_of(parts) == found
    # Hash by hash, in any order, as the workers have them.
    hashes = together([by_hash(one) for one in reversed(parts)])
    summed = Repeats()
    first = pa.array([value[-1] in "02468ace" for value in hashes["sha256"].to_pylist()])
    for few in (hashes.filter(first), hashes.filter(pa.compute.invert(first))):
        summed.merge(Repeats.from_json(repeats_in(few).to_json()))
    assert summed == found
    assert found.groups > MOST == len(found.largest)


def test_it_is_what_counting_by_hand_gives():
    whole = images(400, kinds=150)
    by: dict[str, list[tuple[str, int]]] = {}
    for row in whole.to_pylist():
        if row["sha256"]:
            by.setdefault(row["sha256"], []).append((row["path"], row["origin"]))
    several = [group for group in by.values() if len(group) > 1]
    found = repeats_of([whole])
    assert found.files == sum(len(group) - 1 for group in several)
    assert found.groups == len(several)
    assert found.clashes == sum(len({origin for _, origin in group}) > 1 for group in several)
    ordered = sorted((-len(g), min(g)[0], max(g)[0]) for g in several)
    assert found.largest == [(-n, first, last) for n, first, last in ordered[:MOST]]
    assert found.clashing[0] == min(
        (min(p for p, o in g if o == 0), min(p for p, o in g if o))
        for g in several
        if len({o for _, o in g}) > 1
    )


def test_a_path_that_is_listed_twice_and_no_label_are_no_repeats():
    table = pa.table({"path": ["a", "a", "b", "c", "c2"], "sha256": ["1", "1", "2", "3", "3"]})
    found = repeats_of([table])
    assert (found.files, found.groups, found.clashes) == (1, 1, 0)
    assert found.lines(3) == ["c = c2"]
