"""Which rows of a large set are done: a bit a row, whatever its ids are."""

from collections.abc import Iterator

import numpy as np

from rayapp.dataset.shards import SHARD_ROWS


class RowsDone:
    """Numbers of rows, as `dataset.shards` counts them: shard × 2³² + row of the shard."""

    def __init__(self) -> None:
        """None yet."""
        self.count = 0
        self.repeated = 0
        self._bits: dict[int, np.ndarray] = {}  # of each shard, packed

    def add(self, numbers: np.ndarray) -> None:
        """Count rows; one that was there already is counted as repeated."""
        for shard, rows in _by_shard(np.asarray(numbers, dtype=np.int64)):
            bits = self.of(shard)
            if rows.max() >= len(bits):
                bits = np.concatenate([bits, np.zeros(rows.max() + 1 - len(bits), np.bool_)])
            before = int(np.count_nonzero(bits))
            bits[rows] = True
            fresh = int(np.count_nonzero(bits)) - before
            self.count += fresh
            self.repeated += len(rows) - fresh
            self._bits[shard] = np.packbits(bits)

    def of(self, shard: int) -> np.ndarray:
        """Whether each row of a shard is done, bool; those beyond its end are not."""
        packed = self._bits.get(shard, np.zeros(0, np.uint8))
        return np.unpackbits(packed).astype(np.bool_)


def _by_shard(numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    shards, rows = np.divmod(numbers, SHARD_ROWS)
    for shard in np.unique(shards):
        yield int(shard), rows[shards == shard]
