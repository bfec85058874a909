"""Random draws that depend on the item alone: not on workers, batch size or order."""

import hashlib
from functools import cached_property

import numpy as np


def generator(seed: int, purpose: str, item_id: str, epoch: int = 0) -> np.random.Generator:
    """The random generator of one item for one purpose.

    Args:
        seed: the run's seed.
        purpose: what is drawn, such as a perturbation's name; other purposes draw independently.
        item_id: the item's id in its list.
        epoch: epoch of training; 0 outside training.
    """
    text = f"{seed}\0{purpose}\0{item_id}\0{epoch}".encode()
    key = int.from_bytes(hashlib.sha256(text).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


class Dice:
    """The draws of one item for one purpose; what is certain costs no draw, nor a generator."""

    def __init__(self, seed: int, purpose: str, item_id: str, epoch: int = 0) -> None:
        self._of = seed, purpose, item_id, epoch

    @cached_property
    def _rng(self) -> np.random.Generator:
        return generator(*self._of)

    def integer(self, low: int, high: int) -> int:
        """A whole number, uniform in low..high, both included."""
        return low if low == high else int(self._rng.integers(low, high + 1))

    def uniform(self, low: float, high: float) -> float:
        """A number, uniform in low..high."""
        return low if low == high else float(self._rng.uniform(low, high))

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return p >= 1 or bool(self._rng.random() < p)
