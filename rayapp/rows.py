"""Rows mapped over Ray Data: one result a row, failures kept as rows, resumed after a kill."""

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
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


class RowWork(Protocol):
    """Work on rows, made once a worker: `setup()` first, then batches of rows.

    A row that fails becomes a failed row (`each` does that); nothing else is lost. A batch that
    raises as a whole is done again row by row.
    """

    def setup(self) -> None:
        """Load what all rows need; what it raises ends the stage."""

    def batch(self, rows: Sequence[Row]) -> list[Row]:
        """One result a row, in order, each with `status` and `error`."""


def each(rows: Sequence[Row], one: Any) -> list[Row]:
    """`one(row)` for every row; an exception becomes that row's `status` and `error`."""
    results = []
    for row in rows:
        try:
            results.append({**row, "status": manifest.STATUS_OK, "error": "", **one(row)})
        except Exception as error:  # noqa: BLE001 - the row is the unit of failure: any cause, named
            results.append({**row, "status": manifest.STATUS_FAILED, "error": said(error)})
    return results


def said(error: BaseException) -> str:
    """An exception as one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, UserError | ImageError) else f"{type(error).__name__}: {text}"


# Statuses of the rows that a worker hands back which could not start: the stage ends with these.
_BROKEN: dict[str, type[Exception]] = {"wrong use": UserError, "broken": JobFailed}


class _Worker:
    """The actor that Ray Data runs: one instance of the work, kept across batches."""

    def __init__(self, work: RowWork, schema: pa.Schema) -> None:
        self._work, self._schema = work, schema
        self._broken: Row = {}
        try:
            work.setup()
        except UserError as error:
            self._broken = {"status": "wrong use", "error": said(error)}
        except Exception as error:  # noqa: BLE001 - from an actor's start Ray brings no plain error
            self._broken = {"status": "broken", "error": said(error)}

    def __call__(self, block: pa.Table) -> pa.Table:
        rows = block.to_pylist()
        results = [{**row, **self._broken} for row in rows] if self._broken else self._done(rows)
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
) -> pa.Table:
    """Every row through `work` on Ray Data; one result row each, sorted by id.

    Finished rows are kept as Parquet parts under the run's output while the stage goes on, so
    the same command resumes after a kill. Counts in equal counts out, or the job fails.

    Raises:
        UserError: the work can't start, or asks for more than the cluster can ever have.
        JobFailed: the workers were lost, or rows were.
    """
    finished = _read_parts(run.store, schema)
    todo = _without(rows, finished)
    with Progress(run.stage, rows.num_rows, unit=unit) as progress:
        progress.skip(finished.num_rows, manifest.count_failed(finished))
        parts = [finished]
        if todo.num_rows:
            require(resources.bundle, run.stage, wait_s)
            stage = _Stage(run, work, schema, resources, progress)
            parts += stage.stream(todo, batch_size)
            lost = _without(todo, pa.concat_tables(parts))
            if lost.num_rows:
                parts += stage.rescue(lost, whole=lost.num_rows == todo.num_rows > batch_size)
    table = pa.concat_tables(parts).sort_by("id")
    if table.num_rows != rows.num_rows or table["id"].combine_chunks() != _ids(rows):
        raise JobFailed(f"{run.stage}: {rows.num_rows} rows went in, {table.num_rows} came out")
    return table


def drop_parts(store: Store) -> None:
    """Remove the parts, once the stage's manifest holds their rows."""
    store.delete([stat.key for stat in list(store.list(f"{_PARTS}/"))])


def _ids(rows: pa.Table) -> pa.Array:
    return rows.select(["id"]).sort_by("id")["id"].combine_chunks()


@dataclass(frozen=True)
class _Stage:
    """What all passes of a stage over its rows share."""

    run: Run
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
            raise JobFailed(f"{self.run.stage}: {why}") from error

    def rescue(self, lost: pa.Table, whole: bool) -> list[pa.Table]:
        """The rows whose workers died, each alone; those that kill theirs again are failed rows."""
        if whole:
            raise JobFailed(f"{self.run.stage}: the workers die on every batch; see Ray's logs")
        parts = self.stream(lost, 1)
        killers = _without(lost, pa.concat_tables([self.schema.empty_table(), *parts])).to_pylist()
        failed = [{**r, "status": manifest.STATUS_FAILED, "error": _KILLED} for r in killers]
        self.progress.update(len(failed), len(failed))
        return [*parts, pa.Table.from_pylist(failed, schema=self.schema)]

    def _parts(self, todo: pa.Table, batch_size: int) -> Iterator[pa.Table]:
        fresh: list[pa.Table] = []
        written = time.monotonic()
        for block in self._dataset(todo, batch_size).iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            first = block.slice(0, 1).to_pylist()
            if first and first[0]["status"] in _BROKEN:
                raise _BROKEN[first[0]["status"]](f"{self.run.stage}: {first[0]['error']}")
            fresh.append(block.cast(self.schema))
            self.progress.update(block.num_rows, manifest.count_failed(block))
            if time.monotonic() - written >= _PART_EVERY_S:
                yield _write_part(self.run.store, fresh)
                fresh, written = [], time.monotonic()
        if fresh:
            yield _write_part(self.run.store, fresh)

    def _dataset(self, todo: pa.Table, batch_size: int) -> Any:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_errored_blocks = -1  # their rows are missed and rescued
        resources = self.resources
        found = capacity()
        workers = max(1, found.most(resources.bundle) or found.fitting(resources.bundle))
        workers = min(workers, resources.max_workers or workers, -(-todo.num_rows // batch_size))
        logging.getLogger("ray.data").setLevel(logging.getLogger("ray").level)
        # Blocks in memory need no read tasks, which would wait for the CPUs that the pool holds.
        blocks = [todo.slice(at, batch_size) for at in range(0, todo.num_rows, batch_size)]
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
            return ray.data.from_arrow(blocks).map_batches(
                _Worker,
                fn_constructor_args=(self.work, self.schema),
                batch_size=None,
                batch_format="pyarrow",
                compute=pool,
                num_cpus=resources.cpus,
                num_gpus=resources.gpus or None,
                max_task_retries=_RETRIES,
            )


def _write_part(store: Store, tables: list[pa.Table]) -> pa.Table:
    table = pa.concat_tables(tables)
    # Named by what is in it: a part that two attempts write is one part.
    name = digest(*(name.encode() for name in sorted(table["id"].to_pylist())))[:24]
    manifest.write_table(store, f"{_PARTS}/{name}.parquet", table)
    return table


def _read_parts(store: Store, schema: pa.Schema) -> pa.Table:
    tables = [manifest.read_table(store, s.key) for s in list(store.list(f"{_PARTS}/"))]
    if not tables:
        return schema.empty_table()
    table = pa.concat_tables([part.cast(schema) for part in tables]).sort_by("id")
    ids = table["id"].to_pylist()
    keep = [at for at, name in enumerate(ids) if at == 0 or ids[at - 1] != name]
    return table if len(keep) == len(ids) else table.take(keep)


def _without(rows: pa.Table, finished: pa.Table) -> pa.Table:
    if not finished.num_rows:
        return rows
    done = set(finished["id"].to_pylist())
    return rows.filter(pa.array([name not in done for name in rows["id"].to_pylist()]))
