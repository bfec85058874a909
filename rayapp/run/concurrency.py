"""How work is driven: rows in batches; threads for what waits, in order or as it ends."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from rayapp.dataset import manifest
from rayapp.run.row_work import Row, RowWork, format_error

T = TypeVar("T")
R = TypeVar("R")


def batches(work: RowWork, rows: Iterable[Row], batch_size: int) -> Iterator[list[Row]]:
    """Results of `batch_size` rows at a time; a row that breaks its batch fails alone."""
    waiting = iter(rows)
    while batch := list(islice(waiting, batch_size)):
        yield _parted(work, batch)


def _parted(work: RowWork, rows: list[Row]) -> list[Row]:
    try:
        results = work.batch(rows)
        if len(results) != len(rows):
            raise RuntimeError(f"{len(rows)} rows went in, {len(results)} came out")
        return results
    except Exception as error:  # noqa: BLE001 - some row broke the batch: each for itself
        if len(rows) == 1:
            return [{**rows[0], "status": manifest.STATUS_FAILED, "error": format_error(error)}]
        return [result for row in rows for result in _parted(work, [row])]


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
