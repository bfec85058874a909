"""Where a day differs from the reference: logits, formats, sizes, what files declare, verdicts.

Compared are, with the calibration's classes and with other traffic, all logits; those of each
format and size with enough images on both sides; and the shares of formats, sizes, kinds that files
declare, reasons and verdicts. How is said in `rayapp/metrics/shift.py`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rayapp.config.errors import UserError
from rayapp.metrics.shift import Shift, compare_counts, corrected
from rayapp.metrics.traffic import NOT_SCORED, Day, Group, dense
from rayapp.models.calibration.decisions import lower_bound, upper_bound
from rayapp.models.verdicts import SYNTHETIC, UNSURE

LEAST_IMAGES = 100  # scored, of a day: below, only an upheaval would show
LEAST_IN_GROUP, LEAST_IN_CLASS = 100, 30  # of one format and size: of the day, of the reference
MOST_GROUPS = 12
_TAIL = 0.975  # of two-sided 95 % intervals
_NONE = "none"  # no reason: the verdict stands as it is
ALL_LOGITS = "logits"
BEFORE, ELSEWHERE = ", days before", ", other counts"  # at the end of a comparison's name
FORMATS, SIZES, DECLARED, REASONS, VERDICTS = "formats", "sizes", "declared", "reasons", "verdicts"


@dataclass(frozen=True)
class VerdictShare:
    """How many images of a day got a verdict, with a 95 % interval, and how many the reference has.

    `expected` is of the mixture of the reference's classes that lies nearest to the day.
    """

    verdict: str
    num: int
    of: int
    expected: float | None

    @property
    def observed(self) -> float:
        """Share of the day's scored images."""
        return self.num / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, Clopper and Pearson."""
        return lower_bound(self.num, self.of, _TAIL), upper_bound(self.num, self.of, _TAIL)


@dataclass(frozen=True)
class Comparison:
    """A day against a reference.

    `unlike` are the day's formats and sizes that the reference hardly has, with their counts;
    comparisons with other traffic than the calibration's end in `ending`.
    """

    num_scored: int
    num_not_scored: int
    shifts: list[Shift]
    verdicts: list[VerdictShare]
    unlike: dict[Group, int] = field(default_factory=dict)
    ending: str = BEFORE

    @property
    def found(self) -> list[Shift]:
        """What differs, the largest effect first."""
        return sorted((s for s in self.shifts if s.found), key=lambda s: -s.effect)

    @property
    def scores_shift(self) -> bool:
        """Whether scores differ from every mixture of the calibration's classes."""
        names = [one.name for one in self.found if not one.name.endswith(self.ending)]
        return any(_of_scores(name) for name in names)

    @property
    def scores_changed(self) -> bool:
        """Whether scores differ from the other traffic's, the days before or another folder's."""
        names = [one.name for one in self.found if one.name.endswith(self.ending)]
        return any(_of_scores(name) for name in names)

    @property
    def share_synthetic(self) -> float | None:
        """Of the mixture of the reference's classes that lies nearest to the day's logits."""
        return self.shifts[0].share_synthetic


def _of_scores(name: str) -> bool:
    return name.startswith((ALL_LOGITS, VERDICTS))


def compare_days(
    day: Day,
    classes: Sequence[Day],
    seed: int,
    *,
    same_decisions: bool,
    other: Day | None = None,
    ending: str = BEFORE,
) -> Comparison:
    """A day against the classes of a calibration, and against other traffic.

    Args:
        day: what came in.
        classes: of the calibration, real and synthetic; empty: the other traffic alone.
        seed: of the draws behind p-values.
        same_decisions: whether verdicts of day and calibration were given by one calibration.
        other: traffic of the days before, or another folder's; None: the calibration alone.
        ending: of the names of comparisons with that.

    Raises:
        UserError: too few images.
    """
    total = day.total()
    sides = [*classes, *([other] if other else [])]
    num_scored, least = total.logits.total(), min(c.total().logits.total() for c in sides)
    if num_scored < LEAST_IMAGES or least < LEAST_IN_CLASS:
        raise UserError(
            f"{num_scored:,} scored images against {least:,} of a class: from {LEAST_IMAGES:,} and "
            f"{LEAST_IN_CLASS:,} on there is something to tell; add days up by --days"
        )
    pairs = list(_pairs(day, classes, same_decisions)) if classes else []
    if other:
        pairs += [(f"{n}{ending}", mine, its) for n, mine, its in _pairs(day, [other], True)]
    found = [
        compare_counts(name, traffic, reference, seed + number, ordered=name.startswith(ALL_LOGITS))
        for number, (name, traffic, reference) in enumerate(pairs)
    ]
    shifts = _corrected(found)
    share = shifts[0].share_synthetic
    known = classes if same_decisions else ()
    verdicts = _verdict_shares(day, known if classes else [d for d in (other,) if d], share)
    sizes = {group: counts.logits.total() for group, counts in day.groups.items()}
    unlike = {
        group: num
        for group, num in sorted(sizes.items(), key=lambda one: -one[1])
        if num and max(_in_group(one, group) for one in classes or sides) < LEAST_IN_CLASS
    }
    return Comparison(num_scored, total.verdicts[NOT_SCORED], shifts, verdicts, unlike, ending)


def _corrected(found: Sequence[Shift]) -> list[Shift]:
    """With p-values for all together, in their order.

    Verdicts follow from logits and reasons: they are no further chance of a false alarm, and no
    surer to differ than the surer of these.
    """
    others = iter(corrected([one for one in found if not one.name.startswith(VERDICTS)]))
    shifts = [one if one.name.startswith(VERDICTS) else next(others) for one in found]
    known = {one.name: one.p_value for one in shifts}
    return [
        replace(one, p_value=max(one.p_value, min(_causes(one.name, known))))
        if one.name.startswith(VERDICTS)
        else one
        for one in shifts
    ]


def _causes(name: str, known: Mapping[str, float]) -> Iterator[float]:
    """p-values of what verdicts follow from, in the same comparison."""
    ways = (name.replace(VERDICTS, cause) for cause in (ALL_LOGITS, REASONS))
    return (known[way] for way in ways if way in known)


def _in_group(day: Day, group: Group) -> int:
    return day.groups[group].logits.total() if group in day.groups else 0


Pair = tuple[str, np.ndarray, np.ndarray]  # name, counts [B], reference [C, B]


def _pairs(day: Day, classes: Sequence[Day], same_decisions: bool) -> Iterator[Pair]:
    """All that is compared with one reference."""
    yield from _logit_pairs(day, classes)
    yield from _word_pairs(day, classes, same_decisions)


def _logit_pairs(day: Day, classes: Sequence[Day]) -> Iterator[Pair]:
    """All logits, then those of each format and size with enough of them, the most first."""
    whole = np.stack([dense(one.total().logits) for one in classes])
    yield ALL_LOGITS, dense(day.total().logits), whole
    groups = [
        group
        for group in sorted(day.groups, key=lambda one: -_in_group(day, one))
        if _in_group(day, group) >= LEAST_IN_GROUP
        and all(_in_group(one, group) >= LEAST_IN_CLASS for one in classes)
    ]
    if len(day.groups) == 1:  # the same once more
        return
    for group in groups[:MOST_GROUPS]:
        reference = np.stack([dense(one.groups[group].logits) for one in classes])
        name = f"{ALL_LOGITS} of {group[0]}, {group[1]}"
        yield name, dense(day.groups[group].logits), reference


def _word_pairs(day: Day, classes: Sequence[Day], same_decisions: bool) -> Iterator[Pair]:
    """Shares of words, where there is more than one."""
    for name in (FORMATS, SIZES, DECLARED, REASONS, VERDICTS):
        if name in (REASONS, VERDICTS) and not same_decisions:
            continue
        mine, others = _words(day, name), [_words(one, name) for one in classes]
        names = sorted(set(mine).union(*others))
        if len(names) > 1 and all(one.total() for one in (mine, *others)):
            counts = [np.array([one[word] for word in names], np.int64) for one in (mine, *others)]
            yield name, counts[0], np.stack(counts[1:])


def _words(day: Day, name: str) -> Counter[str]:
    """Counts of words, of scored images alone."""
    total = day.total()
    if name == DECLARED:
        return day.declared
    if name == REASONS:
        rest = total.logits.total() - day.reasons.total()
        return Counter({**day.reasons, _NONE: max(rest, 0)})
    if name == VERDICTS:
        return Counter({word: n for word, n in total.verdicts.items() if word != NOT_SCORED})
    found: Counter[str] = Counter()
    for group, counts in day.groups.items():
        found[group[name == SIZES]] += counts.logits.total()
    return +found


def _verdict_shares(
    day: Day, classes: Sequence[Day], share_synthetic: float | None
) -> list[VerdictShare]:
    mine = _words(day, VERDICTS)
    shares = [1.0] if share_synthetic is None else [1 - share_synthetic, share_synthetic]
    return [
        VerdictShare(word, mine[word], mine.total(), _expected(word, classes, shares))
        for word in (SYNTHETIC, UNSURE)
    ]


def _expected(word: str, classes: Sequence[Day], shares: Sequence[float]) -> float | None:
    if not classes:
        return None
    counts = [_words(one, VERDICTS) for one in classes]
    each = (one[word] / one.total() for one in counts)
    return sum(share * of for share, of in zip(shares, each, strict=True))


def largest_changes(
    day: Day, classes: Sequence[Day], name: str, most: int = 3
) -> Mapping[str, float]:
    """Of a comparison of words: which share of the day is how much above the reference's nearest.

    Of two classes against the class that has more of the word: what neither has is new.
    """
    mine, others = _words(day, name), [_words(one, name) for one in classes]
    gaps = {
        word: mine[word] / mine.total() - max(one[word] / one.total() for one in others)
        for word in mine
    }
    return dict(sorted(gaps.items(), key=lambda one: -one[1])[:most])
