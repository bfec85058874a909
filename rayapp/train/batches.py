"""Which items every step takes: a function of seed, stage and epoch, of nothing else.

Shapes: N items of a list · B items of a step.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rayapp.transforms import generator

Indices = NDArray[np.int64]


def num_steps(num_items: int, batch_size: int) -> int:
    """Steps of one epoch: a rest of under a quarter of a batch joins the step before it.

    Statistics of a batch, and a share for every rank, need more than an image or two.
    """
    whole, rest = divmod(num_items, batch_size)
    return max(whole + (rest >= batch_size / 4), 1)


def steps(num_items: int, batch_size: int, seed: int, stage: str, epoch: int) -> list[Indices]:
    """Item indices of each step of an epoch: every item once, in an order drawn for the epoch.

    Step s takes items s·B to (s + 1)·B of the drawn order; the last one takes all that is left.
    """
    order = generator(seed, f"order/{stage}", "", epoch).permutation(num_items)
    count = num_steps(num_items, batch_size)
    return np.split(order, [batch_size * step for step in range(1, count)])


def share(batch: Indices, rank: int, num_ranks: int) -> tuple[Indices, int]:
    """A rank's part of a step's items, and how many of them lie before it."""
    start, end = (len(batch) * at // num_ranks for at in (rank, rank + 1))
    return batch[start:end], start


class RankSteps:
    """What a data loader of one rank reads: a list of (epoch, index) for each step of an epoch."""

    def __init__(self, batches: list[Indices], epoch: int, rank: int, num_ranks: int) -> None:
        self._shares = [share(batch, rank, num_ranks)[0] for batch in batches]
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._shares)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for indices in self._shares:
            yield [(self._epoch, int(index)) for index in indices]
