import numpy as np
import pytest

from rayapp.train.data.batches import Order, RankSteps, num_steps, share, steps


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
