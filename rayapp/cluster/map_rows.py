"""Rows mapped over Ray Data: one result a row, failures kept as rows, resumed after a kill."""

import itertools
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data

from rayapp.cluster.capacity import demand, require, workers
from rayapp.config.errors import JobFailed, UserError
from rayapp.config.memory import keep_freed_memory
from rayapp.dataset import manifest
from rayapp.run.progress import Progress
from rayapp.run.record import Run
from rayapp.run.row_parts import Parts
from rayapp.run.row_work import Row, RowWork, format_error

_PART_EVERY_S = 5.0
_PART_ROWS = 8192  # at most: what the driver holds of rows at once
_RETRIES = 2  # of a batch whose worker died: a lost node is no fault of the batch
_KILLED = "the worker's process died on it (crashed, or out of memory)"
_BLOCKS_PER_WORKER = 64  # so the last block leaves the others idle for 1/128 of the time
_MOST_BLOCK_ROWS = 256
_SMALL_FIRST = 8  # blocks of a quarter of a batch, so that something is done and shown soon
_MOST_WORKERS = 4096
_CUT_FOR = 256  # workers, where nobody knows how many there will be


# Statuses of the rows that a worker hands back which could not start: the stage ends with these.
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
            starts = range(0, len(rows), self._batch_size)
            results = [r for at in starts for r in self._done(rows[at : at + self._batch_size])]
        return pa.Table.from_pylist(results, schema=self._schema)

    def _done(self, rows: list[Row]) -> list[Row]:
        try:
            results = self._work.batch(rows)
            if len(results) != len(rows):
                raise RuntimeError(f"{len(rows)} rows went in, {len(results)} came out")
            return results
        except Exception as error:  # noqa: BLE001 - some row broke the batch: each for itself
            if len(rows) == 1:
                return [{**rows[0], "status": manifest.STATUS_FAILED, "error": format_error(error)}]
            return [result for row in rows for result in self._done([row])]


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage asks for, and how many there may be (None: as many as fit)."""

    cpus: float = 1.0
    gpus: float = 0.0
    max_workers: int | None = None

    @property
    def bundle(self) -> dict[str, float]:
        """What Ray counts, of one worker."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


def map_rows(
    rows: pa.Table,
    work: RowWork,
    schema: pa.Schema,
    *,
    run: Run,
    batch_size: int,
    resources: Resources = Resources(),
    unit: str = "images",
    wait_s: float = 0.0,
    stage: str = "",
    max_block_rows: int = _MOST_BLOCK_ROWS,
    verify: Callable[[pa.Table], pa.Table] | None = None,
) -> Parts:
    """Every row through `work` on Ray Data; one result row each, read back in id order.

    Finished rows are kept as Parquet parts under the run's output while the stage goes on, so
    the same command resumes after a kill: rows that failed, or that `verify` does not give back,
    are done again. Counts in equal counts out, or the job fails.

    Args:
        rows: the work list, with a column `id` of unique names; large ones best in id order, in
            which they are read back.
        work: what is done to them.
        schema: of the result; it holds `id`, `status` and `error`.
        run: whose output keeps the parts.
        batch_size: rows that `work` gets at once.
        resources: what one worker asks for.
        unit: what a row is, for the progress line.
        wait_s: how long to wait for resources that may still come.
        stage: name of one of several passes of a run; the run's own where there is one.
        max_block_rows: of one task of Ray, whose rows are kept and shown together: few where a
            row takes long.
        verify: of the rows that an earlier run finished, those that still hold.

    Raises:
        UserError: the work can't start, or asks for more than the cluster can ever have.
        JobFailed: the workers were lost, or rows were.
    """
    stage = stage or run.stage
    parts = Parts(run.store, stage, schema)
    if run.state != "new":  # a new run may have yet to clear away another's
        parts.resume(verify)
    todo = parts.without(rows)
    progress = Progress(stage, rows.num_rows, unit=unit)
    progress.skip(parts.num_rows)
    with progress:
        if todo.num_rows:
            require(resources.bundle, stage, wait_s)
        with run.claimed():
            _Stage(stage, parts, work, resources, progress, max_block_rows).all(todo, batch_size)
    if not parts.ids().sort().equals(rows["id"].combine_chunks().sort()):
        raise JobFailed(f"{stage}: {rows.num_rows} rows went in, {parts.num_rows} came out")
    return parts


@dataclass(frozen=True)
class _Stage:
    """What all passes of a stage over its rows share."""

    name: str
    parts: Parts
    work: RowWork
    resources: Resources
    progress: Progress
    max_block_rows: int

    def all(self, todo: pa.Table, batch_size: int) -> None:
        """Every row; those whose worker died once more, alone."""
        if todo.num_rows:
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
        bundle = self.resources.bundle
        now, most = workers(bundle, self.resources.max_workers or _MOST_WORKERS)
        blocks = self._blocks(todo, batch_size, min(most, max(now, _CUT_FOR)))
        now, most = min(now, len(blocks)), min(most, len(blocks))
        with demand(bundle, most - now):
            self._drain(self._dataset(blocks, batch_size, now, most))

    def _drain(self, dataset: Any) -> None:
        """Keep every block as it comes, as parts of some seconds each."""
        fresh: list[pa.Table] = []
        due = time.monotonic()  # the first block is kept at once
        for block in dataset.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            first = block.slice(0, 1).to_pylist()
            if first and first[0]["status"] in _BROKEN:
                raise _BROKEN[first[0]["status"]](f"{self.name}: {first[0]['error']}")
            fresh.append(block)
            self.progress.update(block.num_rows, manifest.count_failed(block))
            if time.monotonic() >= due or sum(one.num_rows for one in fresh) >= _PART_ROWS:
                self.parts.write(fresh)
                fresh, due = [], time.monotonic() + _PART_EVERY_S
        if fresh:
            self.parts.write(fresh)

    def _blocks(self, todo: pa.Table, batch_size: int, num_workers: int) -> list[pa.Table]:
        size = 1
        if batch_size > 1:
            size = _block_rows(todo.num_rows, batch_size, num_workers, self.max_block_rows)
        few = max(1, batch_size // 4)
        soon = min(_SMALL_FIRST * few, todo.num_rows)
        cuts = [*range(0, soon, few), *range(soon, todo.num_rows, size), todo.num_rows]
        return [todo.slice(at, end - at) for at, end in itertools.pairwise(cuts)]

    def _dataset(self, blocks: list[pa.Table], batch_size: int, now: int, most: int) -> Any:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_errored_blocks = -1  # their rows are missed and rescued
        logging.getLogger("ray.data").setLevel(logging.getLogger("ray").level)
        resources = self.resources
        pool = ray.data.ActorPoolStrategy(
            min_size=1,
            max_size=most,  # as far as the cluster grows: Ray starts no more than there is room for
            initial_size=now,
            # A row alone is alone: none that waits behind it is lost with its worker.
            max_tasks_in_flight_per_actor=1 if batch_size == 1 else 4,
        )
        with warnings.catch_warnings():
            # Ray 2.60 has no named parameter for it yet, and without it retries for ever.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Blocks in memory need no tasks, which would wait for the CPUs that the pool holds
            # (`from_arrow` would send a task for the schema of each). A batch is a block, which
            # `map_batches` itself refuses to workers with a GPU.
            return ray.data.from_blocks(blocks).map_batches_internal(
                _Worker,
                fn_constructor_args=(self.work, self.parts.schema, batch_size),
                batch_size=None,
                batch_format="pyarrow",
                compute=pool,
                num_cpus=resources.cpus,
                num_gpus=resources.gpus or None,
                max_task_retries=_RETRIES,
            )


def _block_rows(num_rows: int, batch_size: int, workers: int, most: int = _MOST_BLOCK_ROWS) -> int:
    """Rows of one task of Ray: whole batches, few tasks, yet many enough to end together."""
    share = num_rows // (workers * _BLOCKS_PER_WORKER)
    return max(1, min(share, most) // batch_size) * batch_size
