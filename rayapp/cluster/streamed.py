"""A job's large set through workers, and what is told of the parts that they wrote."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

import pyarrow as pa

from rayapp.cluster.map_rows import Resources
from rayapp.cluster.session import as_completed, meanwhile, start
from rayapp.config.given_images import GivenImages
from rayapp.config.settings import JobSettings
from rayapp.dataset.repeats import Repeats, repeats_of
from rayapp.dataset.shard_rows import apart_from, part_schema
from rayapp.run.dataset_folder import DatasetFolder, Part
from rayapp.run.large_inputs import LARGE, LargeInputs, find_inputs
from rayapp.run.progress import Progress
from rayapp.run.record import Run
from rayapp.run.row_work import RowWork
from rayapp.storage.disk import scratch_folder
from rayapp.storage.store import Store

_PARTS_A_TASK = 8


class Gathered(Protocol):
    """What is told of some parts, and added up."""

    parts: list[Part]

    def add(self, store: Store, keys: Sequence[str]) -> Self:
        """Look at parts."""

    def merge(self, other: Self) -> None:
        """As if the parts that the other one saw had come by here."""


G = TypeVar("G", bound=Gathered)


@dataclass(frozen=True)
class Streamed:
    """A set that went by.

    Attributes:
        folder: with a row for each of its rows.
        schema: of these.
        num_rows: how many they are.
        fresh: of these, done by this run.
        elapsed_s: what that took.
    """

    folder: DatasetFolder
    schema: pa.Schema
    num_rows: int
    fresh: int
    elapsed_s: float

    @property
    def is_small(self) -> bool:
        """Whether the rows are put together into one table too."""
        return self.num_rows <= LARGE

    def gather(self, nothing: G) -> G:
        """What is told of all parts, by workers; of few rows here, for they take to start."""
        keys = [stat.key for stat in self.folder.parts()]
        if self.is_small:
            return nothing.add(self.folder.store, keys)
        import ray

        task = ray.remote(num_cpus=1)(_add)
        groups = [keys[at : at + _PARTS_A_TASK] for at in range(0, len(keys), _PARTS_A_TASK)]
        tasks = {task.remote(nothing, self.folder.store, few): few[0] for few in groups}
        for _, found in as_completed(tasks):
            nothing.merge(found)
        nothing.parts.sort(key=lambda part: part.file)
        return nothing

    def repeats(self) -> Repeats:
        """The files of equal bytes, wherever in the set they lie; its rows have a `sha256`."""
        if self.is_small:
            return repeats_of([self.folder.read(part) for part in self.folder.parts()])
        from rayapp.cluster.group_by import repeats_among

        return repeats_among(self.folder, self.num_rows)

    def table(self) -> pa.Table:
        """All rows in id order; for sets that are small."""
        parts = [self.folder.read(part).select(self.schema.names) for part in self.folder.parts()]
        return pa.concat_tables([self.schema.empty_table(), *parts]).sort_by("id")


def _add(nothing: G, store: Store, keys: Sequence[str]) -> G:
    return nothing.add(store, keys)


def given_input(settings: GivenImages, opened: contextlib.ExitStack) -> LargeInputs:
    """The set that `--input` names, in shards however small it is.

    Args:
        settings: of the job.
        opened: keeps what is written down of it, and the session that is opened if it takes long.

    Raises:
        UserError: nothing there, or nothing that can be read.
    """
    scratch = opened.enter_context(scratch_folder())
    uri = str(settings.input)

    def find() -> object:
        return find_inputs(
            uri,
            root=settings.root,
            scheme=settings.scheme,
            column=settings.column,
            stream=True,
            scratch=scratch,
            output=settings.output,
        )

    found = meanwhile(settings, opened, find)
    assert isinstance(found, LargeInputs)
    return found


def stream_rows(
    settings: JobSettings,
    run: Run,
    large: LargeInputs,
    work: RowWork,
    facts: pa.Schema,
    name: str,
    batch_size: int,
    resources: Resources | None = None,
) -> Streamed:
    """Every row of a set through `work`, read and written by workers; or the rest of them.

    The rest are those that an earlier run has not done yet, and those that failed in it.

    In a session that `session.on_demand` promises.

    Args:
        settings: of the job.
        run: whose output it is; claimed here.
        large: the set.
        work: what is done to its rows; see `shard_rows.COLUMNS`.
        facts: columns of what it finds; `id`, `status` and `error` are among them.
        name: the folder's, under the output.
        batch_size: rows that `work` gets at once, at most.
        resources: what one worker asks for; a CPU if none.

    Raises:
        UserError: the work can't start, or asks for more than the cluster can ever have; rows
            that an earlier version wrote have other columns.
        JobFailed: the workers were lost, or rows were.
    """
    start()
    from rayapp.cluster.stream import Stream  # brings Ray with it

    folder, each = DatasetFolder(run.store, name), resources or Resources()
    shards = replace(large.shards, kept=apart_from(facts, large.shards.kept))
    schema = part_schema(facts, shards.kept)
    if run.state != "new":  # a new run may have yet to clear away another's
        folder.settle(schema)
    before = folder.done.count
    stream = Stream(run.job, shards, work, schema, folder, each, batch_size)
    began = time.monotonic()
    with run.claimed(), Progress(run.job, large.shards.num_rows or 0) as progress:
        large.put_down(run.store)
        num_rows = stream.run(progress, settings.wait_s)
    return Streamed(folder, schema, num_rows, num_rows - before, time.monotonic() - began)
