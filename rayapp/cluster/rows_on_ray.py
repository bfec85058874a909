"""One pass over rows on Ray Data: a pool of actors, each with the work set up once.

Blocks come back as they are done. One that kills its worker is missed, not retried for ever, and
its rows are done once more, each alone.
"""

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data

from rayapp.cluster.capacity import demand, require, workers
from rayapp.cluster.ray_data import quiet
from rayapp.config.errors import JobFailed, UserError
from rayapp.config.memory import keep_freed_memory
from rayapp.dataset import manifest
from rayapp.run.concurrency import batches
from rayapp.run.progress import Progress
from rayapp.run.row_parts import Parts
from rayapp.run.row_work import Row, RowWork, format_error

_RETRIES = 2  # of a batch whose worker died: a lost node is no fault of the batch
_KILLED = "the worker's process died on it (crashed, or out of memory)"
_BLOCKS_PER_WORKER = 64  # so the last block leaves the others idle for 1/128 of the time
_SMALL_FIRST = 8  # blocks of a quarter of a batch, so that something is done and shown soon
_MOST_WORKERS = 4096
_CUT_FOR = 256  # workers, where nobody knows how many there will be

# Statuses of the rows that a worker hands back which could not start: the job ends with these.
_BROKEN: dict[str, type[Exception]] = {"wrong use": UserError, "broken": JobFailed}


class _Worker:
    """The actor that Ray Data runs: one instance of the work, kept across batches."""

    def __init__(self, work: RowWork, schema: pa.Schema, batch_size: int) -> None:
        self._work, self._schema, self._batch_size = work, schema, batch_size
        self._broken: Row = {}
        keep_freed_memory()
        try:
            work.setup()
        except UserError as error:
            self._broken = {"status": "wrong use", "error": format_error(error)}
        except Exception as error:  # noqa: BLE001 - from an actor's start Ray brings no plain error
            self._broken = {"status": "broken", "error": format_error(error)}

    def __call__(self, block: pa.Table) -> pa.Table:
        rows = block.to_pylist()
        if self._broken:
            results = [{**row, **self._broken} for row in rows]
        else:
            results = [one for done in batches(self._work, rows, self._batch_size) for one in done]
        return pa.Table.from_pylist(results, schema=self._schema)


@dataclass(frozen=True)
class RowsOnRay:
    """What all passes of a job over its rows share."""

    name: str
    parts: Parts
    work: RowWork
    bundle: dict[str, float]  # of one worker
    max_workers: int | None
    side_by_side: int  # blocks that a worker has under way at once
    progress: Progress
    max_block_rows: int

    def require(self, wait_s: float) -> None:
        """Return once a worker can run.

        Raises:
            UserError: none ever can.
        """
        require(self.bundle, self.name, wait_s)

    def all(self, todo: pa.Table, batch_size: int) -> None:
        """Every row; those whose worker died once more, alone."""
        self.stream(todo, batch_size)
        lost = self.parts.without(todo)
        if lost.num_rows:
            self.rescue(lost, whole=lost.num_rows == todo.num_rows > batch_size)

    def stream(self, todo: pa.Table, batch_size: int) -> None:
        """Run Ray Data over the rows, writing a part every few seconds."""
        try:
            self._stream(todo, batch_size)
        except ray.exceptions.RayError as error:
            # The last line is the cause; those before say where in Ray it was seen.
            why = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise JobFailed(f"{self.name}: {why}") from error

    def rescue(self, lost: pa.Table, whole: bool) -> None:
        """The rows whose workers died, each alone; those that kill theirs again are failed rows."""
        if whole:
            raise JobFailed(f"{self.name}: the workers die on every batch; see Ray's logs")
        self.stream(lost, 1)
        killers = self.parts.without(lost).to_pylist()
        failed = [{**r, "status": manifest.STATUS_FAILED, "error": _KILLED} for r in killers]
        if failed:
            self.progress.update(len(failed), len(failed))
            self.parts.write([pa.Table.from_pylist(failed, schema=self.parts.schema)])

    def _stream(self, todo: pa.Table, batch_size: int) -> None:
        bundle = self.bundle
        now, most = workers(bundle, self.max_workers or _MOST_WORKERS)
        blocks = self._blocks(todo, batch_size, min(most, max(now, _CUT_FOR)))
        now, most = min(now, len(blocks)), min(most, len(blocks))
        with demand(bundle, most - now):
            self.parts.gather(self._came_back(self._dataset(blocks, batch_size, now, most)))

    def _came_back(self, dataset: Any) -> Iterator[pa.Table]:
        """Each block when it is done."""
        for block in dataset.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            first = block.slice(0, 1).to_pylist()
            if first and first[0]["status"] in _BROKEN:
                raise _BROKEN[first[0]["status"]](f"{self.name}: {first[0]['error']}")
            self.progress.update(block.num_rows, manifest.count_failed(block))
            yield block

    def _blocks(self, todo: pa.Table, batch_size: int, num_workers: int) -> list[pa.Table]:
        size = 1
        if batch_size > 1:
            size = _block_rows(todo.num_rows, batch_size, num_workers, self.max_block_rows)
        few = max(1, batch_size // 4)
        soon = min(_SMALL_FIRST * few, todo.num_rows)
        cuts = [*range(0, soon, few), *range(soon, todo.num_rows, size), todo.num_rows]
        return [todo.slice(at, end - at) for at, end in itertools.pairwise(cuts)]

    def _dataset(self, blocks: list[pa.Table], batch_size: int, now: int, most: int) -> Any:
        return worked_on(
            blocks,
            _Worker,
            (self.work, self.parts.schema, batch_size),
            pool=(now, most),
            bundle=self.bundle,
            retries=_RETRIES,
            # A row alone is alone: none that waits behind it is lost with its worker.
            in_flight=1 if batch_size == 1 else 4,
            side_by_side=1 if batch_size == 1 else self.side_by_side,
        )


def worked_on(
    blocks: list[pa.Table],
    worker: type,
    arguments: tuple[Any, ...],
    *,
    pool: tuple[int, int],
    bundle: dict[str, float],
    retries: int,
    in_flight: int = 4,
    side_by_side: int = 1,
) -> Any:
    """What a pool of actors makes of blocks, as a dataset; a block that kills its worker is missed.

    Args:
        blocks: tables in memory, each one task.
        worker: class of the actor; called with a block.
        arguments: of its constructor.
        pool: how many actors start, and how many there may be as the cluster grows.
        bundle: what Ray counts of one.
        retries: of a block whose worker died.
        in_flight: blocks that wait at one actor.
        side_by_side: of these, how many it has under way at once, in threads.
    """
    quiet()
    ray.data.DataContext.get_current().max_errored_blocks = -1
    now, most = pool
    actors = ray.data.ActorPoolStrategy(
        min_size=1,
        max_size=most,  # as far as the cluster grows: Ray starts no more than there is room for
        initial_size=now,
        max_tasks_in_flight_per_actor=in_flight,
        max_concurrent_calls_per_actor=side_by_side,
        enable_true_multi_threading=side_by_side > 1,
    )
    with warnings.catch_warnings():
        # Ray 2.60 has no named parameter for it yet, and without it retries for ever.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Blocks in memory need no tasks, which would wait for the CPUs that the pool holds
        # (`from_arrow` would send a task for the schema of each). `map_batches` asks workers with
        # a GPU for a number of rows a batch, and makes batches of several blocks of it: so a block
        # travels as one row.
        return ray.data.from_blocks([_packed(block) for block in blocks]).map_batches(
            _Unpacked,
            fn_constructor_args=(worker, arguments),
            batch_size=1,
            batch_format="pyarrow",
            compute=actors,
            num_cpus=bundle["CPU"],
            num_gpus=bundle.get("GPU"),
            max_task_retries=retries,
        )


def _packed(block: pa.Table) -> pa.Table:
    """A table of one row that holds the block."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, block.schema) as writer:
        writer.write_table(block)
    return pa.table({"block": pa.array([sink.getvalue().to_pybytes()], pa.large_binary())})


class _Unpacked:
    """A worker that is given packed blocks."""

    def __init__(self, worker: type, arguments: tuple[Any, ...]) -> None:
        self._worker = worker(*arguments)

    def __call__(self, packed: pa.Table) -> pa.Table:
        block = pa.ipc.open_stream(packed["block"][0].as_buffer()).read_all()
        return self._worker(block)


def _block_rows(num_rows: int, batch_size: int, workers: int, most: int) -> int:
    """Rows of one task of Ray: whole batches, few tasks, yet many enough to end together."""
    share = num_rows // (workers * _BLOCKS_PER_WORKER)
    return max(1, min(share, most) // batch_size) * batch_size
