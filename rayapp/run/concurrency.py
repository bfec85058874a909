"""How work is driven: rows in batches; threads for what waits, in order or as it ends."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import islice
from typing import TypeVar

from rayapp.dataset import manifest
from rayapp.run.row_work import Row, RowWork, format_error

T = TypeVar("T")
R = TypeVar("R")


def batches(
    work: RowWork, rows: Sequence[Row], batch_size: int, side_by_side: int = 1
) -> Iterator[list[Row]]:
    """Results of `batch_size` rows at a time, in order; a row that breaks its batch fails alone.

    Args:
        work: done in this thread, or in as many of its own as work `side_by_side`.
        rows: all of them.
        batch_size: rows that it gets at once.
        side_by_side: batches under way at once; one more waits for each.
    """
    parts = [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
    if side_by_side == 1:
        yield from (_parted(work, part) for part in parts)
        return
    threads = ThreadPoolExecutor(side_by_side)
    try:
        yield from read_ahead(threads, partial(_parted, work), parts, 2 * side_by_side)
    finally:  # where nobody wants the rest, what waits is not begun
        threads.shutdown(cancel_futures=True)


def _parted(work: RowWork, rows: Sequence[Row]) -> list[Row]:
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
