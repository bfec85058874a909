"""Scored items in one canonical order, so that sharded and single-process figures are equal."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rayapp.metrics.measure import Floats, Ints


@dataclass(frozen=True)
class Scored:
    """Labels, scores, probabilities and groups of N items, highest score first.

    Rows are sorted by score, label, probability and group: however the items were dealt to
    blocks, the merged columns, and so every figure, are the same to the last bit.
    """

    labels_N: Ints
    scores_N: Floats
    probabilities_N: Floats
    groups_N: NDArray[np.str_] | None = None

    @classmethod
    def of(
        cls,
        labels_N: ArrayLike,
        scores_N: ArrayLike,
        probabilities_N: ArrayLike,
        groups_N: ArrayLike | None = None,
    ) -> "Scored":
        """Checks and sorts the columns of one block.

        Groups name what is resampled as one (a photograph, a scene); without them each item is
        its own group.

        Raises:
            ValueError: lengths differ, a label is not 0 or 1, a score is not finite, or a
                probability lies outside [0, 1].
        """
        labels = np.asarray(labels_N).astype(np.int64).ravel()
        scores = np.asarray(scores_N, dtype=np.float64).ravel()
        probabilities = np.asarray(probabilities_N, dtype=np.float64).ravel()
        groups = None if groups_N is None else np.asarray(groups_N).astype(np.str_).ravel()
        _check(labels, scores, probabilities, groups)
        last_keys = () if groups is None else (groups,)
        order = np.lexsort((*last_keys, probabilities, labels, -scores))
        return cls(
            labels[order],
            scores[order],
            probabilities[order],
            None if groups is None else groups[order],
        )

    @property
    def num_synthetic(self) -> int:
        """Number of items with label 1."""
        return int(self.labels_N.sum())

    @property
    def num_real(self) -> int:
        """Number of items with label 0."""
        return len(self.labels_N) - self.num_synthetic

    def group_codes(self) -> tuple[Ints, int]:
        """Code of each item's group, in the order of the groups' names, and their number."""
        if self.groups_N is None:
            return np.arange(len(self.labels_N)), len(self.labels_N)
        names, codes = np.unique(self.groups_N, return_inverse=True)
        return codes.astype(np.int64), len(names)


def _check(labels: Ints, scores: Floats, probabilities: Floats, groups: object) -> None:
    lengths = {len(labels), len(scores), len(probabilities)}
    if isinstance(groups, np.ndarray):
        lengths.add(len(groups))
    if len(lengths) > 1:
        raise ValueError(f"columns of different lengths: {sorted(lengths)}")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 (real) or 1 (synthetic)")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities must lie in [0, 1]")
