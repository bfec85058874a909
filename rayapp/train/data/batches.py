"""Which items every step takes: a function of seed, stage and epoch, of nothing else.

Shapes: N items of a list · B items of a step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayapp.transforms.draws import generator

Indices = NDArray[np.int64]


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


def share(num_images: int, rank: int, num_ranks: int) -> slice:
    """Which of a step's images are a rank's."""
    start, end = (num_images * at // num_ranks for at in (rank, rank + 1))
    return slice(start, end)


@dataclass(frozen=True)
class Order:
    """The order in which a stage takes its items."""

    num_items: int
    batch_size: int
    num_epochs: int
    seed: int
    stage: str

    def steps(self, epoch: int) -> list[Indices]:
        """The item indices of each step of an epoch, see `steps`."""
        return steps(self.num_items, self.batch_size, self.seed, self.stage, epoch)


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
                mine = share(len(indices), self._rank, self._num_ranks)
                yield [(epoch, int(index)) for index in indices[mine]]
            skipped = 0
