"""Rows mapped in this process or over Ray Data: one result a row, failures kept as rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from rayapp.cluster import session
from rayapp.config.errors import JobFailed, UserError
from rayapp.dataset import manifest
from rayapp.run.concurrency import batches
from rayapp.run.progress import Progress
from rayapp.run.record import Run
from rayapp.run.resume import Verify
from rayapp.run.row_parts import Parts
from rayapp.run.row_work import RowWork, format_error

if TYPE_CHECKING:
    from rayapp.cluster.rows_on_ray import RowsOnRay

_MOST_BLOCK_ROWS = 256
SMALL = 500  # rows at most that are done in this process: to start Ray would take longer


@dataclass(frozen=True)
class Resources:
    """What one worker of a job asks for, and how many there may be (None: as many as fit).

    `side_by_side` batches are under way in each at once: its work is then called from threads.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    max_workers: int | None = None
    side_by_side: int = 1

    @property
    def bundle(self) -> dict[str, float]:
        """What Ray counts, of one worker."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


def in_process(
    run: Run, num_rows: int, resources: Resources = Resources(), small: int = SMALL
) -> bool:
    """Whether so few rows are done in this process: Ray would take longer to start.

    Never where somebody asks for Ray, a cluster, a GPU or a number of workers, and not once a run
    was cut off: Ray outlives a worker that a row kills.
    """
    asked = resources.gpus or resources.max_workers is not None
    return num_rows <= small and not asked and run.state != "resumed" and session.spared()


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
    name: str = "",
    max_block_rows: int = _MOST_BLOCK_ROWS,
    verify: Verify | None = None,
    small: int = SMALL,
) -> Parts:
    """Every row through `work`, few in this process, many on Ray Data; read back in id order.

    Finished rows are kept as Parquet parts under the run's output while the job goes on, so
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
        name: of one of several passes over rows; the job's own where there is one.
        max_block_rows: of one task of Ray, whose rows are kept and shown together: few where a
            row takes long.
        verify: of the rows that an earlier run finished, those that still hold.
        small: rows that are done in this process, where nothing asks for Ray; see
            `session.spared`.

    Raises:
        UserError: the work can't start, or asks for more than the cluster can ever have.
        JobFailed: the workers were lost, or rows were.
    """
    name = name or run.job
    parts = Parts(run.store, name, schema)
    if run.state != "new":  # a new run may have yet to clear away another's
        parts.resume(verify)
    todo = parts.without(rows)
    progress = Progress(name, rows.num_rows, unit=unit)
    progress.skip(parts.num_rows)
    with progress:
        if not todo.num_rows:
            run.claim()
        elif in_process(run, rows.num_rows, resources, small):
            with run.claimed():
                at_once = resources.side_by_side
                parts.gather(_here(name, todo, work, schema, batch_size, at_once, progress))
        else:
            on_ray = _on_ray(name, parts, work, resources, progress, max_block_rows)
            on_ray.require(wait_s)
            with run.claimed():
                on_ray.all(todo, batch_size)
    if not parts.ids().sort().equals(rows["id"].combine_chunks().sort()):
        raise JobFailed(f"{name}: {rows.num_rows} rows went in, {parts.num_rows} came out")
    return parts


def _on_ray(
    name: str,
    parts: Parts,
    work: RowWork,
    resources: Resources,
    progress: Progress,
    max_block_rows: int,
) -> "RowsOnRay":
    """Rows over Ray Data, in a session that is started here."""
    session.start()
    from rayapp.cluster.rows_on_ray import RowsOnRay  # brings Ray with it

    return RowsOnRay(
        name,
        parts,
        work,
        resources.bundle,
        resources.max_workers,
        resources.side_by_side,
        progress,
        max_block_rows,
    )


def _here(
    name: str,
    rows: pa.Table,
    work: RowWork,
    schema: pa.Schema,
    batch_size: int,
    side_by_side: int,
    progress: Progress,
) -> Iterator[pa.Table]:
    """Every row, in this process."""
    try:
        work.setup()
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except Exception as error:
        raise JobFailed(f"{name}: {format_error(error)}") from error
    for results in batches(work, rows.to_pylist(), batch_size, side_by_side):
        block = pa.Table.from_pylist(results, schema=schema)
        progress.update(block.num_rows, manifest.count_failed(block))
        yield block
