"""Whole groups dealt to train, head, calibration and test, each class in proportion.

A deal depends on the seed and on the images' own names and bytes only, not on order or place.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from rayapp.annotate.words import Subset
from rayapp.config.errors import UserError
from rayapp.run.record import digest

Split = Literal["train", "head", "calibration", "test"]
SPLITS: tuple[Split, ...] = ("train", "head", "calibration", "test")


def parse_shares(text: str) -> dict[Split, float]:
    """`60/15/10/15`: shares of train, head, calibration and test, of any sum.

    Raises:
        UserError: not four numbers, or none for test, or none for training where not all is tested.
    """
    parts = text.split("/")
    try:
        shares = dict(zip(SPLITS, map(float, parts), strict=True))
    except ValueError:
        shares = {}
    total = sum(shares.values())
    untested = not shares or min(shares.values()) < 0 or not shares["test"]
    if untested or not (shares["train"] or shares["test"] == total):
        raise UserError(
            f"--split {text!r}: four shares are wanted, train/head/calibration/test, such as "
            "60/15/10/15, those of train and test above 0; or 0/0/0/100, all to be tested"
        )
    return {name: share / total for name, share in shares.items()}


def deal(
    names: Sequence[str],
    classes: Sequence[Sequence[str]],
    groups: Sequence[int],
    shares: Mapping[Split, float],
    *,
    seed: int,
    test_only: frozenset[str] = frozenset(),
    not_calibrated: Collection[int] = (),
) -> list[Split | None]:
    """The split of each image; images of one group go together, None where none is open to them.

    A group goes where it brings the counts of all its classes nearest to their shares, in squares.

    Args:
        names: the images' ids.
        classes: what is kept in proportion: of each image its origin, its generator and content.
        groups: the group of each image.
        shares: of each split; they sum to 1. One of 0 is closed.
        seed: of the deal.
        test_only: classes of generators that are held out: their groups go to test.
        not_calibrated: groups that calibration may not have.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for at, group in enumerate(groups):
        members[group].append(at)
    held = {
        group: Counter(one for at in members[group] for one in classes[at]) for group in members
    }
    split: list[Split | None] = [None] * len(names)
    for group in [group for group in members if held[group].keys() & test_only]:
        del held[group]  # they are in no proportion
        for at in members[group]:
            split[at] = "test" if shares["test"] else None
    wanted = Counter(one for counts in held.values() for one in counts.elements())
    have: Counter[tuple[Split, str]] = Counter()

    def farther(name: Split, group: int) -> float:
        """By how much the split's squared distance from its counts grows with the group."""
        return sum(
            count * (count + 2 * (have[name, one] - wanted[one] * shares[name]))
            for one, count in held[group].items()
        )

    def order(group: int) -> tuple[int, str]:
        # Large groups first, while there is room; equal ones by a draw.
        first = min(names[at] for at in members[group])
        return -len(members[group]), digest(b"%d" % seed, b"annotate", first.encode())

    for group in sorted(held, key=order):
        free = [name for name in SPLITS if shares[name]]
        if group in not_calibrated:
            free = [name for name in free if name != "calibration"]
        if free:
            chosen = min(free, key=lambda name, group=group: farther(name, group))  # type: ignore[misc]
            have.update({(chosen, one): count for one, count in held[group].items()})
            for at in members[group]:
                split[at] = chosen
    return split


def open_to(subset: Subset, subsets: Collection[Subset]) -> tuple[Split, ...]:
    """The lists that the images of a subset of a published split may go to.

    Test stays test. Val is the test where there is no other, as in GenImage, else calibration, for
    which training images are taken only where there is no val beside a test.
    """
    if subset == "test" or (subset == "val" and "test" not in subsets):
        return ("test",)
    if subset == "val":
        return ("calibration",)
    return (
        ("train", "head") if {"val", "test"} <= set(subsets) else ("train", "head", "calibration")
    )


def deal_subsets(
    subsets: Sequence[Subset],
    names: Sequence[str],
    classes: Sequence[Sequence[str]],
    groups: Sequence[int],
    shares: Mapping[Split, float],
    *,
    seed: int,
    test_only: frozenset[str] = frozenset(),
) -> tuple[list[Split | None], list[int]]:
    """As `deal`, each subset of a published split within the lists that are open to it.

    Returns:
        The split of each image, and the groups that lie across different lists: the leaks of the
        published split. They stay where they are. Only calibration, which would be refused as not
        apart from training or test, does without them.
    """
    open_of = {subset: open_to(subset, set(subsets)) for subset in set(subsets)}
    across: defaultdict[int, set[tuple[Split, ...]]] = defaultdict(set)
    for group, subset in zip(groups, subsets, strict=True):
        across[group].add(open_of[subset])
    leaks = sorted(group for group, several in across.items() if len(several) > 1)
    split: list[Split | None] = [None] * len(names)
    for pool in sorted(set(open_of.values())):
        at = [k for k, subset in enumerate(subsets) if open_of[subset] == pool]
        weights = {name: shares[name] if len(pool) > 1 else 1.0 for name in pool}
        total = sum(weights.values())
        dealt = deal(
            [names[k] for k in at],
            [classes[k] for k in at],
            [groups[k] for k in at],
            {name: weights.get(name, 0.0) / total for name in SPLITS},
            seed=seed,
            test_only=test_only,
            not_calibrated=frozenset(leaks),
        )
        for k, name in zip(at, dealt, strict=True):
            split[k] = name
    return split, leaks


def check(
    split: Sequence[Split | None],
    origins: Sequence[str],
    shares: Mapping[Split, float],
    wanted: Collection[str] = ("real", "synthetic"),
) -> None:
    """UserError where a split that has a share lacks an origin that is wanted."""
    there = set(zip(split, origins, strict=True))
    for name in SPLITS:
        for origin in sorted(wanted):
            if shares.get(name) and (name, origin) not in there:
                raise UserError(
                    f"{name} is left without {origin} images: too few of them, or groups too "
                    "large; give more images, another --group-by or another --split"
                )
