"""Does a day's traffic differ from a reference, by how much, and is that more than chance?

Compared are counts: of logits by bin, or of words (formats, reasons, …). The size of the effect is,
of logits, the largest distance of the two cumulative distributions (Kolmogorov and Smirnov), and
of words the share that would have to be another (total variation); both lie in 0 … 1.

A calibration set has both classes, and traffic has them in another share, which is no fault of the
detector. So where the reference has classes, traffic is compared with the mixture of them that
lies nearest to it: the difference that is left is one that no share of synthetic images explains.

The largest distance says what a shift may do to a threshold, but sees little of a shift that goes
up here and down there. So whether it is chance is asked of a statistic of its own: of logits
Neyman's smooth one of order four (mean, spread, skew and tails of the ranks in both together), and
of words the sum of squared differences over their mean shares.

p-values are by simulation: the reference's classes and the traffic are drawn anew under the fitted
mixture (of one class: under both pooled), the mixture is fitted anew, and counted is how often the
statistic is at least as large. Few draws do where it is large often (Besag and Clifford, Biometrika
1991). Over all groups p-values are corrected by Holm's method.

Shapes: B bins or words, C classes of the reference, R draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ALPHA = 0.03  # of all comparisons of a day together: a false alarm in so many days at most
LEAST_EFFECT = 0.04  # so far 1,000 images lie apart by chance now and then; less changes little
_ROUNDS = (199, 800, 2000)  # draws, until chance is likely or all are done
_ORDER = 4  # of the polynomials
_ENOUGH = 20  # draws with as much of it: the p-value is known well enough


@dataclass(frozen=True)
class Shift:
    """One comparison.

    `share_synthetic` is the mixture that lies nearest, where the reference has two classes.
    `p_value` is by itself until `corrected` has seen all comparisons.
    """

    name: str
    num: int
    num_reference: int
    effect: float
    p_value: float
    share_synthetic: float | None = None

    @property
    def found(self) -> bool:
        """Whether it is more than chance, and large enough to matter."""
        return self.p_value <= ALPHA and self.effect >= LEAST_EFFECT


def compare_counts(
    name: str, traffic_B: Ints, reference_CB: Ints, seed: int = 0, *, ordered: bool
) -> Shift:
    """The shift between counts of traffic and of a reference of one class or two.

    Args:
        name: what is compared, for people.
        traffic_B: counts.
        reference_CB: of each class; of two: real, synthetic.
        seed: of the draws.
        ordered: whether neighbours are alike, as bins of logits are.

    Raises:
        ValueError: one side is empty, or there are more than two classes.
    """
    sizes_C = reference_CB.sum(axis=1)
    if len(sizes_C) > 2 or not traffic_B.sum() or not sizes_C.all():
        raise ValueError(f"{name}: counts of one class or two are compared, none of them empty")
    used = (traffic_B + reference_CB.sum(axis=0)) > 0
    traffic_B, reference_CB = traffic_B[used], reference_CB[:, used]
    share, effect, seen = (
        float(one[0]) for one in _measured(traffic_B[None], reference_CB[None], ordered)
    )
    rng, at_least, drawn = np.random.default_rng(seed), 0, 0
    for num in _ROUNDS:
        draws = _drawn(traffic_B, reference_CB, share, num, rng)
        at_least += int((_measured(*draws, ordered)[2] >= seen - 1e-12).sum())
        drawn += num
        if at_least >= _ENOUGH:
            break
    return Shift(
        name,
        int(traffic_B.sum()),
        int(sizes_C.sum()),
        effect,
        (at_least + 1) / (drawn + 1),
        share if len(sizes_C) == 2 else None,
    )


def _drawn(
    traffic_B: Ints, reference_CB: Ints, share: float, num: int, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Counts of so many days and references in which there is no shift: [R, B] and [R, C, B]."""
    sizes_C = reference_CB.sum(axis=1)
    if len(sizes_C) == 1:
        pooled_B = traffic_B + reference_CB[0]
        classes = [pooled_B / pooled_B.sum()]
    else:
        classes = [one / one.sum() for one in reference_CB]
    mixed_B = classes[0] if len(classes) == 1 else (1 - share) * classes[0] + share * classes[1]
    days = rng.multinomial(int(traffic_B.sum()), mixed_B / mixed_B.sum(), size=num)
    each = [
        rng.multinomial(int(size), one, size=num)
        for size, one in zip(sizes_C, classes, strict=True)
    ]
    return days, np.stack(each, axis=1)


def _measured(
    traffic_RB: Ints, reference_RCB: Ints, ordered: bool
) -> tuple[Floats, Floats, Floats]:
    """The nearest mixture's share of the second class, the effect, and the statistic, of each row.

    Each is [R].
    """
    traffic = traffic_RB / traffic_RB.sum(axis=1, keepdims=True)
    classes = reference_RCB / reference_RCB.sum(axis=2, keepdims=True)
    share = np.zeros(len(traffic))
    nearest = classes[:, 0]
    if classes.shape[1] == 2:
        # A distance counts where images are.
        mass = traffic_RB + reference_RCB.sum(axis=1) if ordered else np.ones_like(traffic_RB)
        share = _nearest_share(mass, traffic, classes, ordered)
        nearest = nearest + share[:, None] * (classes[:, 1] - nearest)
    gaps, both = traffic - nearest, (traffic + nearest) / 2
    if not ordered:
        parts = np.divide(gaps**2, both, out=np.zeros_like(gaps), where=both > 0)
        return share, np.abs(gaps).sum(axis=1) / 2, parts.sum(axis=1)
    return share, np.abs(np.cumsum(gaps, axis=1)).max(axis=1), _smooth(gaps, both)


def _nearest_share(mass: Ints, traffic: Floats, classes: Floats, ordered: bool) -> Floats:
    """How much of the second class the mixture holds that lies nearest to the traffic [R]."""
    apart, along = classes[:, 1] - classes[:, 0], traffic - classes[:, 0]
    if ordered:
        apart, along = np.cumsum(apart, axis=1), np.cumsum(along, axis=1)
    found, norm = (mass * apart * along).sum(axis=1), (mass * apart**2).sum(axis=1)
    share = np.divide(found, norm, out=np.zeros_like(found), where=norm > 0)
    return np.asarray(np.clip(share, 0, 1), np.float64)


def _smooth(gaps_RB: Floats, both_RB: Floats) -> Floats:
    """Neyman's statistic: squared differences along polynomials of the ranks, the lowest [R]."""
    ranks_RB = 2 * np.cumsum(both_RB, axis=1) - both_RB - 1  # of a bin's middle, -1 to 1
    waves_RBO = np.polynomial.legendre.legvander(ranks_RB, _ORDER)[..., 1:]
    sizes_O = 2 * np.arange(1, _ORDER + 1) + 1
    along_RO = np.einsum("rb,rbo->ro", gaps_RB, waves_RBO)
    return np.asarray(along_RO**2 @ sizes_O, np.float64)


def corrected(shifts: Sequence[Shift]) -> list[Shift]:
    """The same with p-values for all of them together (Holm, 1979), in their order."""
    order = sorted(range(len(shifts)), key=lambda at: shifts[at].p_value)
    found, least = list(shifts), 0.0
    for rank, at in enumerate(order):
        least = max(least, min(1.0, (len(shifts) - rank) * shifts[at].p_value))
        found[at] = replace(shifts[at], p_value=least)
    return found
