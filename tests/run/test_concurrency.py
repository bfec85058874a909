"""Order, bounds and faults of work in threads."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from rayapp.run.concurrency import as_completed, batches, read_ahead
from rayapp.run.row_work import Row


class Counted:
    """Work that knows how many of it are begun and not yet taken."""

    def __init__(self) -> None:
        self.begun = self.taken = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, item: int) -> int:
        with self._lock:
            self.begun += 1
            self.most = max(self.most, self.begun - self.taken)
        time.sleep(0.001 * (item % 3))
        return item * item


@pytest.mark.parametrize(("depth", "at_once"), [(1, 1), (2, 1), (6, 1), (6, 3), (100, 4)])
def test_read_ahead_keeps_the_order_and_its_depth(depth: int, at_once: int) -> None:
    work, found = Counted(), []
    with ThreadPoolExecutor(4) as threads:
        for value in read_ahead(threads, work, range(25), depth, at_once):
            work.taken += 1
            found.append(value)
    assert found == [item * item for item in range(25)]
    assert work.most <= max(depth, at_once) + at_once


def test_one_is_under_way_while_another_is_looked_at() -> None:
    begun = [threading.Event() for _ in range(3)]

    def work(item: int) -> int:
        begun[item].set()
        return item

    with ThreadPoolExecutor(1) as threads:
        first = next(ahead := read_ahead(threads, work, range(3), depth=2))
        assert first == 0
        assert begun[1].wait(5)
        assert not begun[2].is_set()
        assert list(ahead) == [1, 2]


def test_what_ends_first_comes_first_and_few_are_under_way() -> None:
    work = Counted()
    found = []
    for value in as_completed(work, iter(range(40)), 3):
        work.taken += 1
        found.append(value)
    assert sorted(found) == [item * item for item in range(40)]
    assert work.most <= 6 + 1


def test_a_fault_ends_the_work() -> None:
    def work(item: int) -> int:
        if item == 3:
            raise ValueError("broken")
        return item

    with pytest.raises(ValueError, match="broken"):
        list(as_completed(work, range(1000), 2))
    with ThreadPoolExecutor(2) as threads, pytest.raises(ValueError, match="broken"):
        list(read_ahead(threads, work, range(10), 4))


class Meeting:
    """Batches that end only once so many are under way; the odd one is done alone."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count)

    def setup(self) -> None:
        """Nothing."""

    def batch(self, rows: Sequence[Row]) -> list[Row]:
        if any(row["id"] == "bad" for row in rows):
            raise RuntimeError("a bad row")
        if len(rows) > 1:
            self._barrier.wait(10)
        return [{**row, "status": "ok", "error": ""} for row in rows]


def test_batches_side_by_side_come_in_order_and_a_bad_row_fails_alone() -> None:
    rows: list[Row] = [{"id": str(number)} for number in range(13)]
    rows[12] = {"id": "bad"}
    found = list(batches(Meeting(2), rows, 3, side_by_side=2))
    assert [row["id"] for some in found for row in some] == [row["id"] for row in rows]
    assert [row["status"] for some in found for row in some] == ["ok"] * 12 + ["failed"]


def test_batches_that_nobody_waits_for_are_not_begun() -> None:
    work = Counted()

    class Rows:
        def setup(self) -> None:
            """Nothing."""

        def batch(self, rows: Sequence[Row]) -> list[Row]:
            work(0)
            return list(rows)

    done = batches(Rows(), [{"id": str(number)} for number in range(100)], 1, side_by_side=2)
    next(done)
    done.close()
    assert work.begun <= 1 + 2 * 2
