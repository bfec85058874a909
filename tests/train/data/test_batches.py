from itertools import chain

import numpy as np
import pytest

from rayapp.config.errors import UserError
from rayapp.train.data.batches import Order, RankSteps, num_steps, share, steps
from rayapp.train.data.items import TrainItem, group_numbers, with_groups


def _ids(num_items: int, num_ranks: int, first_step: int = 0) -> list[list[tuple[int, int]]]:
    """(epoch, index) of each step of two epochs, put together from what the ranks read."""
    order = Order(num_items, 12, 2, 7, "stage1")
    read = [RankSteps(order, first_step, rank, num_ranks) for rank in range(num_ranks)]
    return [[pair for part in step for pair in part] for step in zip(*read, strict=True)]


@pytest.mark.parametrize("num_items", [1, 11, 12, 14, 15, 24, 100])
def test_an_epoch_takes_every_item_once(num_items: int) -> None:
    batches = steps(num_items, 12, 7, "stage1", 3)
    assert sorted(np.concatenate(batches)) == list(range(num_items))
    assert len(batches) == num_steps(num_items, 12)


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_together_read_the_same_steps(num_ranks: int) -> None:
    assert _ids(100, num_ranks) == _ids(100, 1)


@pytest.mark.parametrize("first_step", [1, 8, 13])
def test_going_on_reads_what_is_left(first_step: int) -> None:
    assert _ids(100, 2, first_step) == _ids(100, 1)[first_step:]
    assert len(_ids(100, 1)) == 18


def test_order_changes_with_epoch_and_stage_only() -> None:
    one, again, later, other = (
        list(steps(100, 12, 7, stage, epoch)[0])
        for stage, epoch in (("stage1", 0), ("stage1", 0), ("stage1", 1), ("stage2", 0))
    )
    assert one == again
    assert one not in (later, other)


def test_a_rest_under_a_quarter_joins_the_last_step() -> None:
    assert [len(b) for b in steps(26, 12, 0, "stage1", 0)] == [12, 14]
    assert [len(b) for b in steps(27, 12, 0, "stage1", 0)] == [12, 12, 3]


def test_shares_are_even_and_in_order() -> None:
    assert [share(11, rank, 3) for rank in range(3)] == [slice(0, 3), slice(3, 7), slice(7, 11)]


def test_the_draw_is_what_it_was() -> None:
    assert list(steps(8, 8, 42, "stage1", 0)[0]) == [2, 7, 3, 0, 5, 1, 6, 4]


# Pairs, a three, and images by themselves, in no order.
GROUPS_N = np.random.default_rng(0).permutation(
    np.concatenate([np.repeat(np.arange(40), 2), np.repeat(40, 3), np.arange(41, 58)])
)


def _grouped_ids(num_ranks: int, groups_N=GROUPS_N, batch_size=12):
    """(epoch, index) that each rank reads, step by step, of two epochs."""
    order = Order(len(groups_N), batch_size, 2, 7, "stage1", groups_N)
    return list(zip(*(RankSteps(order, 0, r, num_ranks) for r in range(num_ranks)), strict=True))


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_group_stands_in_one_step(epoch: int) -> None:
    order = Order(100, 12, 2, 7, "stage1", GROUPS_N)
    batches = order.steps(epoch)
    assert sorted(np.concatenate(batches)) == list(range(100))
    assert len(batches) == num_steps(100, 12)
    assert all(abs(len(batch) - 12) <= 2 for batch in batches[:-1])
    steps_of = [np.unique(GROUPS_N[batch]) for batch in batches]
    assert sum(map(len, steps_of)) == len(np.unique(GROUPS_N)), "a group is in two steps"
    ungrouped = steps(100, 12, 7, "stage1", epoch)
    assert sum(len(np.unique(GROUPS_N[batch])) for batch in ungrouped) > 58, "the test can fail"


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_a_pair_is_on_one_rank_and_steps_are_those_of_one_rank(num_ranks: int) -> None:
    alone, parted = _grouped_ids(1), _grouped_ids(num_ranks)
    assert [one for (one,) in alone] == [list(chain(*step)) for step in parted]
    for step in parted:
        found = [{GROUPS_N[index] for _, index in part} for part in step]
        assert all(found), "every rank has images"
        assert sum(map(len, found)) == len(set.union(*found)), "a group is on two ranks"


def test_a_rank_is_never_left_without_images() -> None:
    """Of two pairs for three ranks one is parted."""
    parts = _grouped_ids(3, np.repeat(np.arange(8), 2), 12)
    assert [[len(part) for part in step] for step in parts[:2]] == [[4, 4, 4], [1, 1, 2]]


def test_pairs_alone_make_even_steps() -> None:
    order = Order(26, 13, 1, 7, "stage1", np.repeat(np.arange(13), 2))
    assert [len(step) % 2 for step in order.steps(0)] == [0, 0]


def test_the_grouped_draw_is_what_it_was() -> None:
    order = Order(12, 8, 1, 42, "stage1", np.repeat(np.arange(6), 2))
    assert [step.tolist() for step in order.steps(0)] == [[4, 5, 0, 1, 6, 7, 10, 11], [2, 3, 8, 9]]


def test_groups_are_numbered_and_those_without_are_alone() -> None:
    items = [TrainItem(name, name, (0, 0, 0, 0), 0) for name in "abcd"]
    assert group_numbers(items) is None
    grouped = with_groups(items, {"a": "x", "c": "x", "b": None})
    assert [item.group for item in grouped] == ["x", "", "x", ""]
    assert group_numbers(grouped).tolist() == [0, 1, 0, 2]
    with pytest.raises(UserError, match="no two images of the lists share a group"):
        with_groups(items, {"a": "x", "b": "y"})
