"""Which items every step takes: a function of seed, stage and epoch, of nothing else.

Items of one group, as a photograph and its partner, stand in one step; and on one rank, wherever
every rank gets a group.

Shapes: N items of a list · B items of a step · G groups of a list.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayapp.transforms.draws import generator

Indices = NDArray[np.int64]
MOST_OF_BATCH = 4  # a group has a quarter of a batch at most: no step is then without images


def num_steps(num_items: int, batch_size: int) -> int:
    """Steps of one epoch: a rest of under a quarter of a batch joins the step before it.

    Statistics of a batch, and a share for every rank, need more than an image or two.
    """
    whole, rest = divmod(num_items, batch_size)
    return max(whole + (rest >= batch_size / 4), 1)


def step_sizes(num_items: int, batch_size: int) -> list[int]:
    """Images of each step of an epoch."""
    before_last = [batch_size] * (num_steps(num_items, batch_size) - 1)
    return [*before_last, num_items - sum(before_last)]


def steps(num_items: int, batch_size: int, seed: int, stage: str, epoch: int) -> list[Indices]:
    """Item indices of each step of an epoch: every item once, in an order drawn for the epoch.

    Step s takes items s·B to (s + 1)·B of the drawn order; the last one takes all that is left.
    """
    order = generator(seed, f"order/{stage}", "", epoch).permutation(num_items)
    return np.split(order, np.cumsum(step_sizes(num_items, batch_size))[:-1])


def grouped_steps(
    groups_N: Indices, batch_size: int, seed: int, stage: str, epoch: int
) -> list[Indices]:
    """The same in an order of whole groups: a step ends where a group does, next to its usual end.

    Args:
        groups_N: number of each item's group; none larger than `batch_size` // MOST_OF_BATCH.
        batch_size: images of one step.
        seed: the run's seed.
        stage: the stage's name.
        epoch: epoch of training.
    """
    members_N = np.argsort(groups_N, kind="stable")
    sizes_G = np.bincount(groups_N)
    starts_G = np.cumsum(sizes_G) - sizes_G
    order_G = generator(seed, f"order/{stage}", "", epoch).permutation(len(sizes_G))
    taken = np.concatenate([members_N[starts_G[g] : starts_G[g] + sizes_G[g]] for g in order_G])
    usual = np.cumsum(step_sizes(len(groups_N), batch_size))[:-1]
    ends = np.cumsum(sizes_G[order_G])
    return np.split(taken, ends[_nearest(usual, ends)])


def _nearest(wanted: Indices, edges: Indices) -> Indices:
    """For each place the number of the nearest edge, of two the first; edges ascend."""
    after = np.minimum(np.searchsorted(edges, wanted), len(edges) - 1)
    before = np.maximum(after - 1, 0)
    nearest: Indices = np.where(wanted - edges[before] <= edges[after] - wanted, before, after)
    return nearest


def share(num_images: int, rank: int, num_ranks: int, groups_B: Indices | None = None) -> slice:
    """Which of a step's images are a rank's.

    Args:
        num_images: of the step.
        rank: of num_ranks.
        num_ranks: among which the step is shared evenly, up to whole groups where there are as
            many as ranks.
        groups_B: number of each image's group, where they have any; those of one stand together.
    """
    ranks = np.arange(num_ranks + 1)
    cuts = num_images * ranks // num_ranks
    if groups_B is not None:
        edges = np.flatnonzero(np.diff(groups_B, prepend=-1, append=-1))
        spare = len(edges) - len(cuts)  # groups beside the one that each rank gets
        if spare >= 0:
            passed = np.maximum.accumulate(_nearest(cuts, edges) - ranks)
            cuts = edges[np.clip(passed, 0, spare) + ranks]
    return slice(int(cuts[rank]), int(cuts[rank + 1]))


@dataclass(frozen=True)
class Order:
    """The order in which a stage takes its items; `groups_N` numbers their groups, if any."""

    num_items: int
    batch_size: int
    num_epochs: int
    seed: int
    stage: str
    groups_N: Indices | None = None

    def steps(self, epoch: int) -> list[Indices]:
        """The item indices of each step of an epoch, see `steps` and `grouped_steps`."""
        if self.groups_N is None:
            return steps(self.num_items, self.batch_size, self.seed, self.stage, epoch)
        return grouped_steps(self.groups_N, self.batch_size, self.seed, self.stage, epoch)

    def share(self, indices: Indices, rank: int, num_ranks: int) -> slice:
        """Which of a step's images are a rank's."""
        groups_B = None if self.groups_N is None else self.groups_N[indices]
        return share(len(indices), rank, num_ranks, groups_B)


class RankSteps:
    """What a data loader of one rank reads, step by step to the stage's end: (epoch, index) pairs.

    One loader serves all epochs, so that processes that read ahead start once.
    """

    def __init__(self, order: Order, first_step: int, rank: int, num_ranks: int) -> None:
        self._order, self._first_step = order, first_step
        self._rank, self._num_ranks = rank, num_ranks

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = num_steps(self._order.num_items, self._order.batch_size)
        first_epoch, skipped = divmod(self._first_step, per_epoch)
        for epoch in range(first_epoch, self._order.num_epochs):
            for indices in self._order.steps(epoch)[skipped:]:
                mine = self._order.share(indices, self._rank, self._num_ranks)
                yield [(epoch, int(index)) for index in indices[mine]]
            skipped = 0
