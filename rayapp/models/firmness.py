"""How firm a verdict is: what is said of the same picture as it is delivered elsewhere.

Shapes: N images · M deliveries of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

DEPENDS = "depends on delivery"
AS_IT_IS = "as it is"


@dataclass(frozen=True)
class Span:
    """Least and largest probability of a picture over its deliveries, and how many flip it."""

    p_min: float
    p_max: float
    flips: int

    @property
    def reason(self) -> str:
        """Why a verdict that flips is none."""
        return f"{DEPENDS}: p from {self.p_min:.3f} to {self.p_max:.3f}"


@dataclass(frozen=True)
class Delivery:
    """The picture as it is, or as delivered elsewhere, and what the detector then says."""

    name: str
    probability: float
    verdict: str


def spans_of(
    p_N: np.ndarray,
    words: Sequence[str],
    delivered_N: Sequence[Sequence[float] | None],
    verdicts_of: Callable[[np.ndarray], tuple[np.ndarray, list[str]]],
    decided: frozenset[str],
) -> list[Span | None]:
    """How firm each verdict is; None where no delivery was scored.

    Args:
        p_N: probabilities of the pictures as they are.
        words: their verdicts.
        delivered_N: logits of the deliveries of each.
        verdicts_of: probabilities and verdicts of logits.
        decided: the verdicts that can flip, one into the other.
    """
    counts = [len(logits or ()) for logits in delivered_N]
    flat = np.array([one for logits in delivered_N for one in logits or ()], dtype=np.float64)
    found_M, said_M = verdicts_of(flat) if len(flat) else (flat, [])
    spans: list[Span | None] = []
    for p, word, end, count in zip(p_N, words, np.cumsum(counts), counts, strict=True):
        if not count:
            spans.append(None)
            continue
        both = np.append(found_M[end - count : end], p)
        others = decided - {word} if word in decided else frozenset[str]()
        flips = sum(one in others for one in said_M[end - count : end])
        spans.append(Span(float(both.min()), float(both.max()), flips))
    return spans
