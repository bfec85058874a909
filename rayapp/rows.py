"""Rows mapped over Ray Data: one result a row, failures kept as rows, resumed after a kill."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import ray.data

from rayapp import manifest
from rayapp.cluster import capacity, require
from rayapp.errors import JobFailed, UserError
from rayapp.progress import Progress
from rayapp.runs import Run, digest
from rayapp.storage import Store

Row = dict[str, Any]

_PARTS = "parts"
_PART_EVERY_S = 5.0


class RowWork(Protocol):
    """Work on rows, made once a worker: `setup()` first, then batches of rows.

    A row that fails raises out of `one` and becomes a failed row; nothing else is lost.
    """

    def setup(self) -> None:
        """Load what all rows need."""

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
    plain = isinstance(error, UserError) or type(error).__name__ == "ImageError"
    return text if plain else f"{type(error).__name__}: {text}"


class _Worker:
    """The actor that Ray Data runs: one instance of the work, kept across batches."""

    def __init__(self, work: RowWork, schema: pa.Schema) -> None:
        self._work, self._schema = work, schema
        work.setup()

    def __call__(self, block: pa.Table) -> pa.Table:
        rows = self._work.batch(block.to_pylist())
        return pa.Table.from_pylist(rows, schema=self._schema)


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage asks for, and how many there may be (None: as many as fit)."""

    cpus: float = 1.0
    gpus: float = 0.0
    max_workers: int | None = None


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
    """
    finished = _read_parts(run.store, schema)
    todo = _without(rows, finished)
    with Progress(run.stage, rows.num_rows, unit=unit) as progress:
        progress.skip(finished.num_rows, manifest.count_failed(finished))
        parts = [finished]
        if todo.num_rows:
            asked = {"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {})
            require(asked, run.stage, wait_s)
            parts += _stream(todo, work, schema, run.store, batch_size, resources, progress)
    table = pa.concat_tables(parts).sort_by("id")
    if table.num_rows != rows.num_rows or table["id"].combine_chunks() != _ids(rows):
        raise JobFailed(f"{run.stage}: {rows.num_rows} rows went in, {table.num_rows} came out")
    return table


def drop_parts(store: Store) -> None:
    """Remove the parts, once the stage's manifest holds their rows."""
    store.delete([stat.key for stat in list(store.list(f"{_PARTS}/"))])


def _ids(rows: pa.Table) -> pa.Array:
    return rows.select(["id"]).sort_by("id")["id"].combine_chunks()


def _stream(
    todo: pa.Table,
    work: RowWork,
    schema: pa.Schema,
    store: Store,
    batch_size: int,
    resources: Resources,
    progress: Progress,
) -> list[pa.Table]:
    """Run Ray Data over the rows, writing a part every few seconds."""
    collected: list[pa.Table] = []
    fresh: list[pa.Table] = []
    written = time.monotonic()
    for block in _dataset(todo, work, schema, batch_size, resources).iter_batches(
        batch_size=None, batch_format="pyarrow", prefetch_batches=0
    ):
        fresh.append(block.cast(schema))
        progress.update(block.num_rows, manifest.count_failed(block))
        if time.monotonic() - written >= _PART_EVERY_S:
            collected.append(_write_part(store, fresh))
            fresh, written = [], time.monotonic()
    if fresh:
        collected.append(_write_part(store, fresh))
    return collected


def _dataset(
    todo: pa.Table, work: RowWork, schema: pa.Schema, batch_size: int, resources: Resources
) -> Any:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    found = capacity()
    most = found.most or found.live
    fits = [most.get("CPU", 0.0) / resources.cpus] if resources.cpus else []
    fits += [most.get("GPU", 0.0) / resources.gpus] if resources.gpus else []
    workers = max(1, int(min(fits, default=1)))
    workers = min(workers, resources.max_workers or workers, -(-todo.num_rows // batch_size))
    logging.getLogger("ray.data").setLevel(logging.getLogger("ray").level)
    # Blocks in memory need no read tasks, which would wait for the CPUs that the pool holds.
    blocks = [todo.slice(at, batch_size) for at in range(0, todo.num_rows, batch_size)]
    return ray.data.from_arrow(blocks).map_batches(
        _Worker,
        fn_constructor_args=(work, schema),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
        num_cpus=resources.cpus,
        num_gpus=resources.gpus or None,
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
