"""Rows mapped over Ray Data: one result a row, failures kept as rows, resumed after a kill."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from rayapp import manifest
from rayapp.cluster import capacity, require
from rayapp.errors import JobFailed, UserError
from rayapp.images import ImageError
from rayapp.progress import Progress
from rayapp.runs import Run, digest
from rayapp.storage import Store

Row = dict[str, Any]

_PARTS = "parts"
_PART_EVERY_S = 5.0
_RETRIES = 2  # of a batch whose worker died: a lost node is no fault of the batch
_KILLED = "the worker's process died on it (crashed, or out of memory)"
_BLOCKS_PER_WORKER = 64  # so the last block leaves the others idle for 1/128 of the time
_MOST_BLOCK_ROWS = 256


class RowWork(Protocol):
    """Work on rows, made once a worker: `setup()` first, then batches of rows.

    A row that fails becomes a failed row (`each` does that); nothing else is lost. A batch that
    raises as a whole is done again row by row.
    """

    def setup(self) -> None:
        """Load what all rows need; what it raises ends the stage."""

    def batch(self, rows: Sequence[Row]) -> list[Row]:
        """One result a row, in order, each with `status` and `error`."""


def each(
    rows: Sequence[Row], one: Callable[[Row], Row], threads: Executor | None = None
) -> list[Row]:
    """`one(row)` for every row; an exception becomes that row's `status` and `error`.

    Args:
        rows: the rows of a batch.
        one: what it returns is added to the row.
        threads: where given, rows are done side by side, so that waiting for files costs no time.
    """

    def guarded(row: Row) -> Row:
        try:
            return {**row, "status": manifest.STATUS_OK, "error": "", **one(row)}
        except Exception as error:  # noqa: BLE001 - the row is the unit of failure: any cause, named
            return {**row, "status": manifest.STATUS_FAILED, "error": said(error)}

    return list(threads.map(guarded, rows) if threads else map(guarded, rows))


def said(error: BaseException) -> str:
    """An exception as one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, UserError | ImageError) else f"{type(error).__name__}: {text}"


# Statuses of the rows that a worker hands back which could not start: the stage ends with these.
_BROKEN: dict[str, type[Exception]] = {"wrong use": UserError, "broken": JobFailed}


class _Worker:
    """The actor that Ray Data runs: one instance of the work, kept across batches."""

    def __init__(self, work: RowWork, schema: pa.Schema, batch_size: int) -> None:
        self._work, self._schema, self._batch_size = work, schema, batch_size
        self._broken: Row = {}
        try:
            work.setup()
        except UserError as error:
            self._broken = {"status": "wrong use", "error": said(error)}
        except Exception as error:  # noqa: BLE001 - from an actor's start Ray brings no plain error
            self._broken = {"status": "broken", "error": said(error)}

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
                return [{**rows[0], "status": manifest.STATUS_FAILED, "error": said(error)}]
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
    verify: Callable[[pa.Table], pa.Table] | None = None,
) -> pa.Table:
    """Every row through `work` on Ray Data; one result row each, sorted by id.

    Finished rows are kept as Parquet parts under the run's output while the stage goes on, so
    the same command resumes after a kill: rows that failed, or that `verify` does not give back,
    are done again. Counts in equal counts out, or the job fails.

    Args:
        rows: the work list, with a column `id` of unique names.
        work: what is done to them.
        schema: of the result; it holds `id`, `status` and `error`.
        run: whose output keeps the parts.
        batch_size: rows that `work` gets at once.
        resources: what one worker asks for.
        unit: what a row is, for the progress line.
        wait_s: how long to wait for resources that may still come.
        stage: name of one of several passes of a run; the run's own where there is one.
        verify: of the rows that an earlier run finished, those that still hold.

    Raises:
        UserError: the work can't start, or asks for more than the cluster can ever have.
        JobFailed: the workers were lost, or rows were.
    """
    stage = stage or run.stage
    kept = f"{_PARTS}/{stage.replace(' ', '-')}/"
    finished = _finished(run.store, kept, schema)
    if verify and finished.num_rows:
        finished = verify(finished)
    todo = _without(rows, finished)
    progress = Progress(stage, rows.num_rows, unit=unit)
    progress.skip(finished.num_rows)
    with progress:
        parts = [finished]
        if todo.num_rows:
            require(resources.bundle, stage, wait_s)
            passes = _Stage(stage, run.store, kept, work, schema, resources, progress)
            parts += passes.stream(todo, batch_size)
            lost = _without(todo, pa.concat_tables(parts))
            if lost.num_rows:
                parts += passes.rescue(lost, whole=lost.num_rows == todo.num_rows > batch_size)
    table = pa.concat_tables(parts).sort_by("id")
    if table.num_rows != rows.num_rows or table["id"].combine_chunks() != _ids(rows):
        raise JobFailed(f"{stage}: {rows.num_rows} rows went in, {table.num_rows} came out")
    return table


def drop_parts(store: Store) -> None:
    """Remove the parts, once the stage's manifest holds their rows."""
    store.delete([stat.key for stat in list(store.list(f"{_PARTS}/"))])


def _ids(rows: pa.Table) -> pa.Array:
    return rows.select(["id"]).sort_by("id")["id"].combine_chunks()


@dataclass(frozen=True)
class _Stage:
    """What all passes of a stage over its rows share."""

    name: str
    store: Store
    kept: str
    work: RowWork
    schema: pa.Schema
    resources: Resources
    progress: Progress

    def stream(self, todo: pa.Table, batch_size: int) -> list[pa.Table]:
        """Run Ray Data over the rows, writing a part every few seconds."""
        try:
            return list(self._parts(todo, batch_size))
        except ray.exceptions.RayError as error:
            # The last line is the cause; those before say where in Ray it was seen.
            why = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise JobFailed(f"{self.name}: {why}") from error

    def rescue(self, lost: pa.Table, whole: bool) -> list[pa.Table]:
        """The rows whose workers died, each alone; those that kill theirs again are failed rows."""
        if whole:
            raise JobFailed(f"{self.name}: the workers die on every batch; see Ray's logs")
        parts = self.stream(lost, 1)
        killers = _without(lost, pa.concat_tables([self.schema.empty_table(), *parts])).to_pylist()
        failed = [{**r, "status": manifest.STATUS_FAILED, "error": _KILLED} for r in killers]
        self.progress.update(len(failed), len(failed))
        return [*parts, pa.Table.from_pylist(failed, schema=self.schema)]

    def _parts(self, todo: pa.Table, batch_size: int) -> Iterator[pa.Table]:
        fresh: list[pa.Table] = []
        due = time.monotonic()  # the first block is kept at once
        for block in self._dataset(todo, batch_size).iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            first = block.slice(0, 1).to_pylist()
            if first and first[0]["status"] in _BROKEN:
                raise _BROKEN[first[0]["status"]](f"{self.name}: {first[0]['error']}")
            fresh.append(block.cast(self.schema))
            self.progress.update(block.num_rows, manifest.count_failed(block))
            if time.monotonic() >= due:
                yield _write_part(self.store, self.kept, fresh)
                fresh, due = [], time.monotonic() + _PART_EVERY_S
        if fresh:
            yield _write_part(self.store, self.kept, fresh)

    def _dataset(self, todo: pa.Table, batch_size: int) -> Any:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_errored_blocks = -1  # their rows are missed and rescued
        logging.getLogger("ray.data").setLevel(logging.getLogger("ray").level)
        resources = self.resources
        workers = _num_workers(resources)
        size = 1 if batch_size == 1 else _block_rows(todo.num_rows, batch_size, workers)
        # Blocks in memory need no tasks, which would wait for the CPUs that the pool holds
        # (`from_arrow` would send a task for the schema of each).
        blocks = [todo.slice(at, size) for at in range(0, todo.num_rows, size)]
        workers = min(workers, len(blocks))
        pool = ray.data.ActorPoolStrategy(
            min_size=1,
            max_size=workers,
            initial_size=workers,
            # A row alone is alone: none that waits behind it is lost with its worker.
            max_tasks_in_flight_per_actor=1 if batch_size == 1 else None,
        )
        with warnings.catch_warnings():
            # Ray 2.60 has no named parameter for it yet, and without it retries for ever.
            warnings.simplefilter("ignore", DeprecationWarning)
            return ray.data.from_blocks(blocks).map_batches(
                _Worker,
                fn_constructor_args=(self.work, self.schema, batch_size),
                batch_size=None,
                batch_format="pyarrow",
                compute=pool,
                num_cpus=resources.cpus,
                num_gpus=resources.gpus or None,
                max_task_retries=_RETRIES,
            )


def _num_workers(resources: Resources) -> int:
    """As many as the cluster may ever hold, at most as many as were asked for."""
    found = capacity()
    workers = max(1, found.most(resources.bundle) or found.fitting(resources.bundle))
    return min(workers, resources.max_workers or workers)


def _block_rows(num_rows: int, batch_size: int, workers: int) -> int:
    """Rows of one task of Ray: whole batches, few tasks, yet many enough to end together."""
    share = num_rows // (workers * _BLOCKS_PER_WORKER)
    return max(1, min(share, _MOST_BLOCK_ROWS) // batch_size) * batch_size


def _write_part(store: Store, kept: str, tables: list[pa.Table]) -> pa.Table:
    table = pa.concat_tables(tables).combine_chunks()
    # Named by what is in it: a part that two attempts write is one part.
    name = digest(*(name.encode() for name in sorted(table["id"].to_pylist())))[:24]
    manifest.write_table(store, f"{kept}{name}.parquet", table)
    return table


def _finished(store: Store, kept: str, schema: pa.Schema) -> pa.Table:
    """The rows that earlier runs did without failure, each once."""
    tables = [manifest.read_table(store, stat.key).cast(schema) for stat in list(store.list(kept))]
    if not tables:
        return schema.empty_table()
    table = pa.concat_tables(tables)
    table = table.filter(pc.equal(table["status"], manifest.STATUS_OK)).sort_by("id")
    ids = table["id"].to_pylist()
    return table.filter(
        pa.array([at == 0 or ids[at - 1] != name for at, name in enumerate(ids)], pa.bool_())
    )


def _without(rows: pa.Table, finished: pa.Table) -> pa.Table:
    if not finished.num_rows:
        return rows
    done = set(finished["id"].to_pylist())
    return rows.filter(pa.array([name not in done for name in rows["id"].to_pylist()]))
