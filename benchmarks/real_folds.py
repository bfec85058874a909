"""Who is judged by a model that saw nothing of them: families, real sources, halves, photographs.

Every fold names its training images and the pairs it judges; a pair is judged by a fold whose
training had neither the synthetic image's family or group, nor the real one's source or group.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.real_judge import Pairs
from benchmarks.real_probe import Probe, fit_probe
from benchmarks.real_set import RealSet, deal

Ints = NDArray[np.int64]
Single = NDArray[np.float32]
PARTS = 4
DEALS = 4


@dataclass(frozen=True)
class Fold:
    """Indices of the training images, and of the synthetic and real images that are judged."""

    train: Ints
    synthetic: Ints
    real: Ints
    deal: int = 0  # folds of one deal judge a pair at most once


def leave_family_out(pictures: RealSet) -> Iterator[Fold]:
    """Each family of generators once, against each part of the real images."""
    real, kinds, groups = pictures.origins_N == 0, pictures.kinds_N, pictures.groups_N
    parts = deal(groups, real, PARTS)
    for family in np.unique(kinds[~real]):
        for part in range(PARTS):
            train = np.where(real, parts != part, kinds != family)
            yield _fold(train, kinds == family, parts == part)


def leave_source_out(pictures: RealSet) -> Iterator[Fold]:
    """Each source of real images once, against each part of the synthetic images."""
    real, kinds, groups = pictures.origins_N == 0, pictures.kinds_N, pictures.groups_N
    parts = deal(groups, ~real, PARTS)
    for source in np.unique(kinds[real]):
        for part in range(PARTS):
            train = np.where(real, kinds != source, parts != part)
            yield _fold(train, parts == part, kinds == source)


def half_against_half(pictures: RealSet) -> Iterator[Fold]:
    """Half of the families and of the real images against the other half, dealt several times."""
    real, kinds, groups = pictures.origins_N == 0, pictures.kinds_N, pictures.groups_N
    for number in range(DEALS):
        half = np.where(real, _halves(groups, real, number), _halves(kinds, ~real, number))
        for side in (0, 1):
            yield _fold(half == side, ~real & (half != side), real & (half != side), number)


def without_source(pictures: RealSet) -> Iterator[Fold]:
    """Each source of real images once, against all synthetic images: none is trained on."""
    real, kinds = pictures.origins_N == 0, pictures.kinds_N
    for source in np.unique(kinds[real]):
        yield _fold(real & (kinds != source), ~real, kinds == source)


def _halves(names_N: NDArray[np.str_], chosen_N: NDArray[np.bool_], number: int) -> Ints:
    """0 or 1: names in the order of a hash, every second one."""
    names = sorted(
        set(names_N[chosen_N]), key=lambda n: hashlib.sha256(f"{number}\0{n}".encode()).hexdigest()
    )
    side = {name: at % 2 for at, name in enumerate(names)}
    return np.array([side.get(name, -1) for name in names_N], dtype=np.int64)


def _fold(
    train: NDArray[np.bool_], synthetic: NDArray[np.bool_], real: NDArray[np.bool_], deal: int = 0
) -> Fold:
    return Fold(np.flatnonzero(train), np.flatnonzero(synthetic), np.flatnonzero(real), deal)


def judge(
    pictures: RealSet, folds: Sequence[Fold], train: Single, judged: Mapping[str, Single]
) -> dict[str, Pairs]:
    """Condition → what its pairs say, each fold's probe trained on `train` and judged on each.

    Args:
        pictures: the set.
        folds: who is trained on and who is judged.
        train: features [N, F] of all images as they are trained on.
        judged: condition → features [N, F] of all images as they are judged.
    """
    origins, kinds, groups = pictures.origins_N, pictures.kinds_N, pictures.groups_N

    def fit(fold: Fold) -> Probe:
        rows = fold.train
        return fit_probe(train[rows], origins[rows], kinds[rows], groups[rows])

    return judge_by(pictures, folds, fit, judged)


def judge_by(
    pictures: RealSet,
    folds: Sequence[Fold],
    fit: Callable[[Fold], Probe],
    judged: Mapping[str, Single],
) -> dict[str, Pairs]:
    """The same, each fold's probe made by `fit`."""
    origins = pictures.origins_N
    at = np.cumsum(origins == 1) - 1, np.cumsum(origins == 0) - 1
    shape = int(origins.sum()), int((1 - origins).sum())
    deals = {name: {fold.deal: Pairs.empty(*shape) for fold in folds} for name in judged}
    for fold in folds:
        probe = fit(fold)
        for name, features in judged.items():
            deals[name][fold.deal].judge(
                at[0][fold.synthetic],
                at[1][fold.real],
                probe.scores(features[fold.synthetic]),
                probe.scores(features[fold.real]),
                probe.threshold,
            )
    return {name: Pairs.mean(list(found.values())) for name, found in deals.items()}
