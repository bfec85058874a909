"""Ingest `stream`: Ray Data reads and crops, and a worker trains on what comes first.

For lists too large for every worker to hold. An image's crop is drawn from seed, epoch and id, as
it is for `indexed`; training is not reproducible for all that: which images make a batch depends on
timing, and a split into equal parts leaves out the rest of an epoch.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
import ray.train
import torch

from rayapp.cluster.capacity import capacity
from rayapp.config.errors import UserError
from rayapp.train.data.crops import Batch, Crops, PictureSource, Unreadable, open_source
from rayapp.train.data.items import TrainItem
from rayapp.train.training_job import Job, Stage
from rayapp.transforms.draws import generator
from rayapp.transforms.operations import ImageHWC
from rayapp.transforms.perturbations import Perturbation

# Of a CPU: less than all that Ray Train's workers leave of a small machine, where reading would
# else never be scheduled, without a word.
CPUS_PER_READ = 0.5
_ROWS_PER_READ = 64
_SAMPLED = 256  # items that a worker knows, for the check before the first epoch
_SHUFFLED_BATCHES = 4  # among which a worker draws; blocks come in another order each epoch
_PREFETCHED = 2


def streamed(job: Job, board: Any) -> tuple[Job, dict[str, ray.data.Dataset]]:
    """The job with a sample in place of each stage's items, and the items as streams of crops.

    Args:
        job: what is trained.
        board: where rank 0 says which epoch begins; see `parts`.

    Raises:
        UserError: the cluster has no CPU beside the workers' to read with.
    """
    _check_room(job)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    datasets = {stage.name: _crops(stage, job, board) for stage in job.stages}
    return replace(job, stages=tuple(map(_sampled, job.stages))), datasets


def parts(
    stage: Stage, first_step: int, *, rank: int, num_workers: int, board: Any
) -> Iterator[Batch]:
    """This worker's part of every step from `first_step` on to the stage's end."""
    size = stage.settings.batch_size // num_workers
    shard = ray.train.get_dataset_shard(stage.name)
    first_epoch, skipped = divmod(first_step, stage.steps_per_epoch)
    for epoch in range(first_epoch, stage.settings.epochs):
        if rank == 0:  # nothing of an epoch is read before every rank has asked for it
            ray.get(board.begin.remote(stage.name, epoch))
        blocks = shard.iter_batches(
            batch_size=size,
            batch_format="pyarrow",
            drop_last=True,
            local_shuffle_buffer_size=_SHUFFLED_BATCHES * size,
            prefetch_batches=_PREFETCHED,
        )
        for _, block in zip(range(stage.steps_per_epoch - skipped), blocks, strict=False):
            yield batch_of(block)
        skipped = 0


def batch_of(block: pa.Table) -> Batch:
    """What could be read of a block of crops, and the rest by name."""
    good = block.filter(pc.equal(block["error"], ""))
    failed = block.filter(pc.not_equal(block["error"], "")).to_pylist()
    failures = {row["id"]: row["error"] for row in failed}
    if not good.num_rows:
        return Batch(torch.empty(0), torch.empty(0), torch.empty(0), failures)
    rows = good.to_pylist()
    pixels = [np.frombuffer(r["pixels"], np.uint8).reshape(r["height"], -1, 3) for r in rows]
    return Batch(
        torch.from_numpy(np.stack(pixels)),
        torch.tensor([row["labels"] for row in rows]),
        torch.tensor([row["target"] for row in rows]),
        failures,
    )


def _sampled(stage: Stage) -> Stage:
    count = min(_SAMPLED, len(stage.items))
    chosen = np.linspace(0, len(stage.items) - 1, count).astype(int)
    items = [stage.items[index] for index in chosen]
    return replace(stage, items=items, num_streamed=len(stage.items))


def _crops(stage: Stage, job: Job, board: Any) -> ray.data.Dataset:
    """Crops of a stage's items, shuffled once by item, and in every epoch by block."""
    order = generator(job.settings.seed, f"stream/{stage.name}", "").permutation(len(stage.items))
    items = [stage.items[index] for index in order]
    rows = pa.table(
        {
            "id": [item.id for item in items],
            "path": [item.path for item in items],
            "labels": pa.array([item.labels for item in items], pa.list_(pa.int64())),
            "target": [item.target for item in items],
        }
    )
    blocks = [rows.slice(at, _ROWS_PER_READ) for at in range(0, len(items), _ROWS_PER_READ)]
    read = _Read(job.settings.root, stage.name, stage.perturbation, job.settings.seed, board)
    return (
        ray.data.from_blocks(blocks)
        .randomize_block_order()
        .map_batches(read, batch_size=None, batch_format="pyarrow", num_cpus=CPUS_PER_READ)
    )


@dataclass(frozen=True)
class _Read:
    """Rows of items to rows of crops."""

    root: str
    stage: str
    perturbation: Perturbation
    seed: int
    board: Any

    def __call__(self, block: pa.Table) -> pa.Table:
        crops = Crops([], self.root, self.perturbation, self.seed, source=_source(self.root))
        epoch = ray.get(self.board.epoch.remote(self.stage))
        rows = []
        for row in block.to_pylist():
            item = TrainItem(row["id"], row["path"], tuple(row["labels"]), row["target"])
            rows.append({**row, **_row(crops.read(item, epoch))})
        return pa.Table.from_pylist(rows, schema=_SCHEMA)


@functools.lru_cache(maxsize=2)
def _source(root: str) -> PictureSource:
    """Opened once in a process: Ray's tasks come to the same processes again."""
    return open_source(root)


_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("labels", pa.list_(pa.int64())),
        ("target", pa.int64()),
        ("pixels", pa.binary()),
        ("height", pa.int32()),
        ("error", pa.string()),
    ]
)


def _row(read: tuple[ImageHWC, TrainItem] | Unreadable) -> dict[str, object]:
    if isinstance(read, Unreadable):
        return {"pixels": b"", "height": 0, "error": read.reason}
    return {"pixels": read[0].tobytes(), "height": read[0].shape[0], "error": ""}


def _check_room(job: Job) -> None:
    settings = job.settings
    taken = settings.num_workers * settings.cpus_per_worker
    found = capacity()
    kinds = found.kinds or [(node, 1) for node in found.nodes]
    total = sum(kind.get("CPU", 0.0) * count for kind, count in kinds)
    if total < taken + CPUS_PER_READ:
        raise UserError(
            f"ingest stream reads with CPUs beside the workers', which take {taken:g} of "
            f"{total:g}; lower cpus_per_worker"
        )
