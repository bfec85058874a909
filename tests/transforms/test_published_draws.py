"""The replay against the published loop, written anew from the pipeline's order of calls."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.data import DataLoader, Dataset

from rayapp.transforms import operations
from rayapp.transforms.plans import Plan, apply
from rayapp.transforms.published_draws import (
    PUBLISHED_WORKERS,
    PublishedDraw,
    published_draws,
    published_items,
    published_stream,
)
from tests.transforms.conftest import picture


def sizes_of_lists():
    rng = np.random.default_rng(1)
    lengths = [301, 330, 300, 477]  # none divides evenly by batch and workers
    lists = [rng.integers(1, 1800, (length, 2)).tolist() for length in lengths]
    return [[(height, width) for height, width in sizes] for sizes in lists]


class PublishedItems(Dataset):
    """What the published dataset does with Python's global generator for each item."""

    def __init__(self, sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        height, width = self.sizes[index]
        h = random.randint(256, max(min(min(height, width), 1000), 256))
        runs = [random.random() < 1, random.random() < 1]  # Compose, PadIfNeeded
        padded_height, padded_width = max(h, height), max(h, width)
        runs.append(random.random() < 1)  # RandomCrop
        h_start, w_start = random.random(), random.random()
        top = int((padded_height - h + 1) * h_start)
        left = int((padded_width - h + 1) * w_start)
        runs.append(random.random() < 1)  # Resize
        assert all(runs)
        kind, quality = -1, -1
        if random.random() < 0.75:  # OneOf
            state = np.random.RandomState(random.randint(0, 2**32 - 1))
            kind = int(state.choice(2, p=np.array([1, 1]) / 2))
            random.random()  # the chosen compression's own p, overruled
            quality = random.randint(60, 100)
        return torch.tensor([h, top, left, kind, quality])


def named(rows):
    codecs = {-1: None, 0: "jpg", 1: "webp"}
    return [PublishedDraw(*row[:3], codecs[row[3]], None if row[4] < 0 else row[4]) for row in rows]


def sequential_replay(lists):
    """The DataLoaders' order without their processes: worker by worker, batch by batch."""
    saved = random.getstate()
    torch.manual_seed(42)
    replayed = []
    for sizes in lists:
        base_seed = torch.empty((), dtype=torch.int64).random_().item()
        items = PublishedItems(sizes)
        batches = [range(start, min(start + 20, len(sizes))) for start in range(0, len(sizes), 20)]
        rows = {}
        for worker in range(8):
            random.seed(base_seed + worker)
            for batch in batches[worker::8]:
                rows.update((index, items[index].tolist()) for index in batch)
        replayed.append(named([rows[index] for index in range(len(sizes))]))
    random.setstate(saved)
    return replayed


def test_draws_equal_the_sequential_replay():
    lists = sizes_of_lists()
    assert published_draws(lists) == sequential_replay(lists)
    # and hang on the layout: another order of the lists draws something else
    assert published_draws(lists[::-1]) != published_draws(lists)[::-1]


@pytest.mark.slow
def test_draws_equal_those_of_real_data_loaders():
    lists = sizes_of_lists()
    torch.manual_seed(42)
    drawn = []
    for sizes in lists:
        loader = DataLoader(PublishedItems(sizes), batch_size=20, num_workers=8, shuffle=False)
        drawn.append(named(torch.cat(list(loader)).tolist()))
    assert drawn == published_draws(lists)


def test_golden_draws():
    assert published_draws([[(700, 900)] * 3, [(200, 300)]]) == [
        [(648, 36, 37, "jpg", 100), (427, 159, 163, "jpg", 77), (268, 193, 16, None, None)],
        [(256, 0, 19, "webp", 65)],
    ]


def test_each_stream_can_be_replayed_apart():
    lists = sizes_of_lists()
    whole = published_draws(lists)
    for list_index, worker in [(3, 7), (0, 0), (2, 4)]:
        items = published_items(len(lists[list_index]), worker)
        sizes = [lists[list_index][item] for item in items]
        apart = published_stream(list_index, worker, sizes)
        assert apart == [whole[list_index][item] for item in items]
    served = sorted(i for w in range(PUBLISHED_WORKERS) for i in published_items(477, w))
    assert served == list(range(477))
    assert published_draws([[], [(300, 300)]])[0] == []


def test_distributions_are_the_protocol_s():
    (draws,) = published_draws([[(700, 900)] * 4000])
    codecs = Counter(draw.codec for draw in draws)
    counts = [codecs["jpg"], codecs["webp"], codecs[None]]
    assert stats.chisquare(counts, [1500, 1500, 1000]).pvalue > 1e-3
    sides = np.histogram([draw.side for draw in draws], bins=5, range=(255.5, 700.5))[0]
    assert stats.chisquare(sides).pvalue > 1e-3
    qualities = Counter(draw.quality for draw in draws if draw.quality)
    assert set(qualities) == set(range(60, 101))
    assert stats.chisquare(list(qualities.values())).pvalue > 1e-3


@pytest.mark.parametrize("size", [(700, 900), (120, 900), (100, 90)])
def test_plan_pads_crops_resizes_and_compresses_in_the_published_order(size):
    image = picture(*size)
    draws = published_draws([[size] * 8])[0]
    assert {draw.codec for draw in draws} == {"jpg", "webp", None}
    for draw in draws:
        expected = operations.pad(image, draw.side, draw.side)
        expected = expected[draw.top :, draw.left :][: draw.side, : draw.side]
        expected = operations.resize(expected, 256, 256, "lanczos4")
        if draw.codec == "jpg":
            expected = operations.jpeg(expected, draw.quality, "bgr")
        if draw.codec == "webp":
            expected = operations.webp(expected, draw.quality, "bgr")
        plan = draw.plan(size)
        np.testing.assert_array_equal(apply(plan, image), expected)
        assert Plan.from_json(plan.to_json()) == plan
