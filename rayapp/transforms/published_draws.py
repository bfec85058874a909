"""The published test set's own random draws, replayed from list order and image sizes alone.

The ImagiNet test images were drawn inside the workers of torch DataLoaders (four lists, one loader
each, batch 20, 8 workers, no shuffle, torch seed 42), so their draws hang on that layout. The
layout is fixed and each worker's stream is Python's own generator, seeded with the loader's base
seed plus the worker's number; so every (list, worker) stream can be replayed apart, anywhere.
Source: dataset_operations/save_testset.py and training_utils/datasets.py of
github.com/delyan-boychev/imaginet at d87b53a, albumentations 1.3.1, torch 2.x DataLoader.
"""

import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from rayapp.config.defaults import PUBLISHED_SEED
from rayapp.transforms.operations import SizeHW
from rayapp.transforms.plans import Draft, Plan

PUBLISHED_WORKERS = 8
_BATCH = 20
_SIDE, _MIN_SIDE, _MAX_SIDE = 256, 256, 1000


class PublishedDraw(NamedTuple):
    """What the published pipeline drew for one item.

    `top` and `left` count on the image padded to at least `side`; `codec` is None (and so is
    `quality`) where the image was not compressed.
    """

    side: int
    top: int
    left: int
    codec: Literal["jpg", "webp"] | None
    quality: int | None

    def plan(self, size_HW: SizeHW) -> Plan:
        """The plan that makes the published image from a source of that height and width."""
        draft = Draft(size_HW)
        draft.square(self.side, self.top, self.left)
        draft.reshape("resize", _SIDE, _SIDE, filter="lanczos4")
        if self.codec and self.quality:
            op = "jpeg" if self.codec == "jpg" else "webp"
            draft.add(op, quality=self.quality, channels="bgr")
        return Plan(draft.steps)


def published_draws(sizes_per_list: Sequence[Sequence[SizeHW]]) -> list[list[PublishedDraw]]:
    """The draws of every item, list by list.

    Args:
        sizes_per_list: (height, width) of the items of each list, in list order; for the published
            set the lists gan, sd, midjourney, dalle3 in this order.
    """
    result: list[list[PublishedDraw]] = []
    for list_index, sizes in enumerate(sizes_per_list):
        draws: dict[int, PublishedDraw] = {}
        for worker in range(PUBLISHED_WORKERS):
            items = published_items(len(sizes), worker)
            stream = published_stream(list_index, worker, [sizes[item] for item in items])
            draws.update(zip(items, stream, strict=True))
        result.append([draws[item] for item in range(len(sizes))])
    return result


def published_items(num_items: int, worker: int) -> list[int]:
    """Indices, in order, of the items of a list that worker 0…7 of its loader served."""
    return [i for i in range(num_items) if i // _BATCH % PUBLISHED_WORKERS == worker]


def published_stream(list_index: int, worker: int, sizes: Sequence[SizeHW]) -> list[PublishedDraw]:
    """The draws of one worker of one list's loader, for the sizes of the items it served."""
    rng = random.Random(_base_seeds(list_index + 1)[list_index] + worker)
    coin = np.random.RandomState()  # seeded anew for each item that is compressed
    return [_draw(rng, coin, size_HW) for size_HW in sizes]


def _base_seeds(num_loaders: int) -> list[int]:
    """What `torch.empty((), dtype=torch.int64).random_()` gives, one a loader, after seed 42.

    torch and NumPy's RandomState share the Mersenne Twister and its seeding; torch joins two
    32-bit words, high word first, and keeps 63 bits.
    """
    words = np.random.RandomState(PUBLISHED_SEED).randint(
        0, 2**32, size=(num_loaders, 2), dtype=np.uint32
    )
    return [(int(high) << 32 | int(low)) & (2**63 - 1) for high, low in words]


def _draw(rng: random.Random, coin: np.random.RandomState, size_HW: SizeHW) -> PublishedDraw:
    height, width = size_HW
    side = rng.randint(_MIN_SIDE, max(min(height, width, _MAX_SIDE), _MIN_SIDE))
    _skip(rng, 3)  # whether to run: the list of operations, the padding, the crop
    top = int((max(height, side) - side + 1) * rng.random())
    left = int((max(width, side) - side + 1) * rng.random())
    _skip(rng, 1)  # whether to run: the resize
    if rng.random() >= 0.75:
        return PublishedDraw(side, top, left, None, None)
    coin.seed(rng.randint(0, 2**32 - 1))
    codec: Literal["jpg", "webp"] = "jpg" if coin.random_sample() < 0.5 else "webp"
    _skip(rng, 1)  # whether to run: the compression
    return PublishedDraw(side, top, left, codec, rng.randint(60, 100))


def _skip(rng: random.Random, count: int) -> None:
    for _ in range(count):
        rng.random()
