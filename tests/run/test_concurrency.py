"""Order, bounds and faults of work in threads."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from rayapp.run.concurrency import as_completed, read_ahead


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
