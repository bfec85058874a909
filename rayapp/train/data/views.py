"""Images as the detector will see them, read ahead and scored some at a time.

Shapes: K views of an image · H W C · V views of a batch · C features or outputs.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rayapp.dataset.images import ImageError
from rayapp.models.inference.precision import without_tf32
from rayapp.models.preprocessing import cut_views, normalise
from rayapp.train.data.crops import Unreadable, open_source
from rayapp.transforms.operations import Window

if TYPE_CHECKING:
    from rayapp.train.data.crops import PictureSource
    from rayapp.train.data.items import TrainItem
    from rayapp.train.training_job import Job, RankContext

_VIEWS_AT_ONCE = 64
# By the server that they are forked from, once: each would else take seconds to import them anew,
# at every validation.
_IMPORTED = ["torch", "rayapp.train.data.crops", "rayapp.train.data.views"]

Views = NDArray[np.uint8]


class ItemViews(Dataset["Views | Unreadable"]):
    """Views uint8 [K, H, W, C] of each item, not yet normalised."""

    def __init__(self, items: Sequence[TrainItem], job: Job) -> None:
        self.items, self._job = items, job
        self._source: PictureSource | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Views | Unreadable:
        item = self.items[index]
        if self._source is None:  # opened by the process that reads
            self._source = open_source(self._job.settings.root)
        try:
            picture = self._source.open(item)
            pixels_HWC = picture.read(Window(0, 0, *picture.size_HW))
        except (ImageError, OSError) as error:
            return Unreadable(item.id, f"{type(error).__name__}: {error}")
        return cut_views(pixels_HWC, self._job.spec.preprocessing)


def scored(
    score: Callable[[Tensor], Tensor],
    items: Sequence[TrainItem],
    job: Job,
    rank_context: RankContext,
) -> Iterator[tuple[TrainItem, Tensor | str]]:
    """Each item, in order, with the float32 mean of `score` over its views; or why it has none.

    Args:
        score: of normalised views [V, C, H, W] on the place's device.
        items: of this rank.
        job: where images lie, and the detector's preprocessing.
        rank_context: where to compute.
    """
    loader = DataLoader(
        ItemViews(items, job),
        batch_size=None,
        collate_fn=_unchanged,
        **reading(min(job.settings.loader_processes, len(items))),
    )
    pending: list[tuple[TrainItem, Views]] = []
    for item, read in zip(items, loader, strict=True):
        if isinstance(read, Unreadable):
            yield from _means(score, pending, job, rank_context)
            pending = []
            yield item, read.reason
            continue
        pending.append((item, read))
        if sum(len(views) for _, views in pending) >= _VIEWS_AT_ONCE:
            yield from _means(score, pending, job, rank_context)
            pending = []
    yield from _means(score, pending, job, rank_context)


def _means(
    score: Callable[[Tensor], Tensor],
    pending: Sequence[tuple[TrainItem, Views]],
    job: Job,
    rank_context: RankContext,
) -> Iterator[tuple[TrainItem, Tensor]]:
    if not pending:
        return
    counts = [len(views) for _, views in pending]
    views_KHWC = torch.from_numpy(np.concatenate([views for _, views in pending]))
    with torch.inference_mode(), without_tf32():
        # In parts: a large image alone may have hundreds of tiles.
        scores = torch.cat(
            [
                score(normalise(part.to(rank_context.device), job.spec.preprocessing)).float().cpu()
                for part in torch.split(views_KHWC, _VIEWS_AT_ONCE)
            ]
        )
        means = [part.mean(0) for part in torch.split(scores, counts)]
    for (item, _), mean in zip(pending, means, strict=True):
        yield item, mean.clone()


def _unchanged(read: Any) -> Any:
    """In place of torch's own, which would make tensors of arrays."""
    return read


def reading(processes: int) -> dict[str, Any]:
    """Arguments of a DataLoader whose images so many processes read; 0: this one."""
    if not processes:
        return {"num_workers": 0}
    # Forked from this process, with Ray's and torch's threads, they would hang.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return {"num_workers": processes, "multiprocessing_context": context}
