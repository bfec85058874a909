"""A bit a row."""

import numpy as np

from rayapp.dataset.shards import SHARD_ROWS
from rayapp.run.rows_done import RowsDone


def test_rows_are_counted_once_each_shard_for_itself():
    done = RowsDone()
    done.add(np.array([3, 0, SHARD_ROWS + 9]))
    done.add(np.array([3, 4]))
    assert (done.count, done.repeated) == (4, 1)
    assert np.flatnonzero(done.of(0)).tolist() == [0, 3, 4]
    assert np.flatnonzero(done.of(1)).tolist() == [9]
    assert not done.of(2).any()


def test_a_number_twice_at_once_is_told():
    done = RowsDone()
    done.add(np.array([5, 5]))
    assert (done.count, done.repeated) == (1, 1)
