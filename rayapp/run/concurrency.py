"""Threads for work that waits: what they give in order, read ahead, or as it ends."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(
    threads: ThreadPoolExecutor,
    work: Callable[[T], R],
    items: Sequence[T],
    depth: int,
    at_once: int = 1,
) -> Iterator[R]:
    """`work` of each item, in order; at most `depth` are done or under way before they are taken.

    A thread does `at_once` in a row: to hand over each of many small ones takes longer than they.
    """

    def each(some: Sequence[T]) -> list[R]:
        return [work(item) for item in some]

    under_way: deque[Future[list[R]]] = deque()
    for at in range(0, len(items), at_once):
        if len(under_way) * at_once >= depth:
            yield from under_way.popleft().result()
        under_way.append(threads.submit(each, items[at : at + at_once]))
    while under_way:
        yield from under_way.popleft().result()


def as_completed(work: Callable[[T], R], items: Iterable[T], num_threads: int) -> Iterator[R]:
    """`work` of each item by threads, as they end; at most 2 × `num_threads` items under way."""
    remaining = iter(items)
    with ThreadPoolExecutor(num_threads) as threads:
        pending: set[Future[R]] = set()
        try:
            while True:
                room = 2 * num_threads - len(pending)
                pending |= {threads.submit(work, item) for item in islice(remaining, room)}
                if not pending:
                    return
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in pending:
                future.cancel()
