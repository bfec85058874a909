"""Rows of a set of any size, read, worked on and written by workers; the driver counts.

Ray Data does it: our read tasks (a public `Datasource`), a pool of actors with the work set up
once, and `write_parquet` under a `CheckpointConfig`, which writes down a part before and after it
is written. A block that kills its worker is missed and its rows are read again, while they are many
in blocks of a batch (whoever lost a node lost rows that are no danger), then each alone; one that
kills its worker again is written as a failed row.

What its own readers lack (Ray 2.60), each in a line that shows it:

    read_parquet(f, include_paths=True, include_row_hash=True)  # no row's number: no row has a name
    read_parquet(f)         # of which bytes 6 to 30 are overwritten: OSError, and the job ends
    read_webdataset(t)      # cut off in a member: tarfile.ReadError, and the job ends
    read_webdataset(t)      # of 1.bin, 2.bin, 1.cls, in this order: ValueError, and the job ends

The checkpoint's own filter holds all ids in each of its actors and reads what is done once more;
here the read tasks skip it.
"""

from __future__ import annotations

import contextlib
import math
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray.data
from ray.data.checkpoint import CheckpointConfig, CheckpointManager
from ray.data.datasource import FilenameProvider

from rayapp.cluster.capacity import demand, require, workers
from rayapp.cluster.map_rows import Resources
from rayapp.cluster.ray_data import quiet
from rayapp.cluster.session import beside_driver
from rayapp.cluster.stream_tasks import Counts, Pieces, Worker
from rayapp.config.errors import JobFailed, UserError
from rayapp.dataset.shards import ShardSet
from rayapp.run.dataset_folder import DatasetFolder
from rayapp.run.progress import Progress
from rayapp.run.row_work import RowWork
from rayapp.storage.arrow_files import arrow_files

_RETRIES = 2  # of a block whose worker died: a lost node is no fault of the block
_MOST_LOST_BLOCKS = 100  # workers that die on more of them die on every one
_FEW = 16  # batches that may all have died of something in them
_MOST_WORKERS = 4096
# Of a CPU. All three fit beside each other: readers that wait for room keep their share, and room
# is made by writers alone.
_WORKER_CPUS, _READER_CPUS, _WRITER_CPUS = 0.9, 0.09, 0.01
_READS_A_GPU, _WORKERS_A_WRITER = 4, 4
_MOST_BLOCK_ROWS, _BLOCKS_PER_WORKER = 8192, 64
_MOST_BLOCK_BYTES, _STORE_SHARE = 32 << 20, 1 / 24
_MOST_PART_ROWS, _PARTS, _ALONE_PART_ROWS = 100_000, 64, 256
_POLL_S = 0.5
_LARGE, _A_BATCH, _ALONE = "large", "of a batch", "of a row"  # blocks
_BROKEN: dict[str, type[Exception]] = {"wrong use": UserError, "broken": JobFailed}


class _NothingFiltered(CheckpointManager):  # type: ignore[misc]
    """Ray's filter of done rows is not put into the plan: the read tasks skip them."""

    def load_checkpoint(self, data_file_dir: Any = None, data_file_filesystem: Any = None) -> Any:
        """No ids to filter by."""
        return None, 0


class _PartNames(FilenameProvider):  # type: ignore[misc]
    """Parts are called parts."""

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        """Of one write task; the uuid tells one pass from the next."""
        return f"part-{write_uuid}-{task_index:06}.parquet"


@dataclass(frozen=True)
class Stream:
    """A job's rows on their way.

    Args:
        name: of the job, for people.
        shards: the set.
        work: what is done to its rows; see `shard_rows.COLUMNS`.
        schema: of the result; it holds `row`, `id`, `status` and `error`.
        folder: where the parts go.
        resources: what one worker asks for, and how many blocks it has under way, in threads.
        batch_size: rows that `work` gets at once, at most.
    """

    name: str
    shards: ShardSet
    work: RowWork
    schema: pa.Schema
    folder: DatasetFolder
    resources: Resources
    batch_size: int
    _read: dict[tuple[int, int], int] = field(default_factory=dict)

    def run(self, progress: Progress, wait_s: float) -> int:
        """Every row, once; how many there are.

        Raises:
            UserError: the work can't start, or asks for more than the cluster can ever have.
            JobFailed: the workers were lost, or rows were.
        """
        require(self.resources.bundle, self.name, wait_s)
        before = self.folder.done.count
        progress.skip(before)
        self._pass(progress, self.work)
        if left := self._left():
            nothing = self.folder.done.count == before
            if nothing and _FEW * self.batch_size < left < math.inf:
                raise JobFailed(
                    f"{self.name}: no part of the result is at "
                    f"{self.folder.store.uri(self.folder.name)}: the workers die on every batch "
                    "(see Ray's logs), or write where this machine does not see it"
                )
            self._again(progress, left)
        if not self._is_whole():
            self._pass(progress, None)
        if not self._is_whole() or self.folder.done.repeated:
            raise JobFailed(
                f"{self.name}: of {self._expected():,} rows {self.folder.done.count:,} came out, "
                f"{self.folder.done.repeated:,} of them twice"
            )
        return self.folder.done.count

    def _again(self, progress: Progress, left: float) -> None:
        """What is left after a pass: while it is much in small blocks, then each row alone."""
        while left > _FEW * self.batch_size:
            self._pass(progress, self.work, _A_BATCH)
            left, earlier = self._left(), left
            if left >= earlier / 2:
                break
        if left:
            self._pass(progress, self.work, _ALONE)

    def _expected(self) -> int:
        return sum(
            piece.num_rows
            if piece.num_rows is not None
            else self._read.get((piece.at, piece.first), 0)
            for piece in self.shards.pieces()
        )

    def _is_whole(self) -> bool:
        return self._left() == 0

    def _left(self) -> float:
        """Rows that are not done; without end where a piece was not read to its own."""
        self.folder.count()
        unread = any(
            piece.num_rows is None and (piece.at, piece.first) not in self._read
            for piece in self.shards.pieces()
        )
        return math.inf if unread else self._expected() - self.folder.done.count

    def _pass(self, progress: Progress, work: RowWork | None, blocks: str = _LARGE) -> None:
        """Those rows that are not done, once."""
        counts = Counts.options(scheduling_strategy=beside_driver()).remote()  # type: ignore[attr-defined]
        already = {
            shard: self.folder.done.of(shard).sum() for shard in range(len(self.shards.shards))
        }
        try:
            with _shown(progress, counts):
                self._stream(counts, work, blocks)
            broken = ray.get(counts.state.remote())[2]
            if broken:
                raise _BROKEN[broken[0]](f"{self.name}: {broken[1]}")
            for piece, rows in ray.get(counts.pieces.remote()).items():
                if self.shards.shards[piece[0]].kind == "tar":
                    self._read[piece] = rows + int(already[piece[0]])
        except ray.exceptions.RayError as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise JobFailed(f"{self.name}: {why}") from error
        finally:
            ray.kill(counts)

    def _stream(self, counts: Any, work: RowWork | None, blocks: str) -> None:
        now, most = workers(self.resources.bundle, self.resources.max_workers or _MOST_WORKERS)
        pieces = Pieces(self.shards, self.folder, counts)
        if not pieces.left:
            return
        files, gpus = arrow_files(self.folder.store), self.resources.bundle.get("GPU")
        quiet()
        context = ray.data.DataContext.get_current()
        before = context.max_errored_blocks, context.target_max_block_size
        context.max_errored_blocks = _MOST_LOST_BLOCKS
        context.target_max_block_size = self._block_bytes(now, blocks)
        context.checkpoint_config = CheckpointConfig(
            id_column="id",
            checkpoint_path=self.folder.checkpoint,
            override_filesystem=files,
            delete_checkpoint_on_success=False,
            checkpoint_manager_cls=_NothingFiltered,
        )
        try:
            read = ray.data.read_datasource(
                pieces,
                num_cpus=_READER_CPUS,
                override_num_blocks=len(pieces.left),
                # Each is a process: more than these only take the workers' memory and time.
                compute=ray.data.TaskPoolStrategy(size=most * (_READS_A_GPU if gpus else 1)),
            )
            with demand(self.resources.bundle, most - now), warnings.catch_warnings():
                # That pieces are few; and that Ray 2.60 has no named parameter for retries yet.
                warnings.simplefilter("ignore")
                self._worked_on(read, counts, work, blocks == _ALONE, (now, most)).write_parquet(
                    self.folder.name,
                    filesystem=files,
                    filename_provider=_PartNames(),
                    min_rows_per_file=_ALONE_PART_ROWS if blocks == _ALONE else self._part_rows(),
                    ray_remote_args={"num_cpus": _WRITER_CPUS},
                    concurrency=max(1, most // _WORKERS_A_WRITER),
                    schema=self.schema,
                    compression="zstd",
                )
        finally:
            context.checkpoint_config = None
            context.max_errored_blocks, context.target_max_block_size = before

    def _worked_on(
        self, read: Any, counts: Any, work: RowWork | None, alone: bool, pool: tuple[int, int]
    ) -> Any:
        now, most = pool
        gpus, side_by_side = self.resources.bundle.get("GPU"), self.resources.side_by_side
        return read.map_batches(
            Worker,
            fn_constructor_args=(work, self.schema, self.batch_size, counts),
            batch_size=(1 if alone else self.batch_size) if gpus else None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                min_size=1,
                max_size=most,
                initial_size=now,
                # A row alone is alone: none that waits behind it is lost with its worker.
                max_tasks_in_flight_per_actor=1 if alone else 2 * side_by_side,
                max_concurrent_calls_per_actor=1 if alone else side_by_side,
                enable_true_multi_threading=side_by_side > 1 and not alone,
            ),
            num_cpus=_WORKER_CPUS * self.resources.bundle["CPU"],
            num_gpus=gpus,
            max_task_retries=_RETRIES,
        )

    def _rows(self) -> int:
        """About how many rows there are."""
        return self.shards.num_rows or max(1, self.shards.num_bytes // _GUESSED_ROW_BYTES)

    def _part_rows(self) -> int:
        return max(1, min(_MOST_PART_ROWS, self._rows() // _PARTS))

    def _block_bytes(self, now: int, blocks: str) -> int:
        """Of a block of rows with their images: what a task has, and what is in flight."""
        if blocks == _ALONE:
            return 1
        rows = self._rows() // (now * _BLOCKS_PER_WORKER) if blocks == _LARGE else 0
        rows = max(self.batch_size, min(_MOST_BLOCK_ROWS, rows))
        size = rows * (self.shards.num_bytes // self._rows() + _ROW_BYTES)
        held = ray.cluster_resources().get("object_store_memory", 1 << 30) / len(ray.nodes())
        return int(max(1 << 16, min(size, _MOST_BLOCK_BYTES, held * _STORE_SHARE)))


_GUESSED_ROW_BYTES = 100 << 10
_ROW_BYTES = 300  # of a row's own columns


@contextlib.contextmanager
def _shown(progress: Progress, counts: Any) -> Iterator[None]:
    """What the tasks count drives `progress` while the block runs."""
    stop = threading.Event()
    start, failed_before = progress.done, progress.failed

    def poll() -> None:
        while not stop.wait(_POLL_S):
            with contextlib.suppress(ray.exceptions.RayError):
                done, failed, _ = ray.get(counts.state.remote(), timeout=5)
                progress.update(
                    start + done - progress.done, failed_before + failed - progress.failed
                )

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
