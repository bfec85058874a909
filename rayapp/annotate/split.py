"""Whole groups dealt to train, head, calibration and test, each class in proportion.

A deal depends on the seed and on the images' own names and bytes only, not on order or place.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from rayapp.config.errors import UserError
from rayapp.run.record import digest

Split = Literal["train", "head", "calibration", "test"]
SPLITS: tuple[Split, ...] = ("train", "head", "calibration", "test")


def parse_shares(text: str) -> dict[Split, float]:
    """`60/15/10/15`: shares of train, head, calibration and test, of any sum.

    Raises:
        UserError: not four numbers, or none above zero for training and test.
    """
    parts = text.split("/")
    try:
        shares = dict(zip(SPLITS, map(float, parts), strict=True))
    except ValueError:
        shares = {}
    if not shares or min(shares.values()) < 0 or not (shares["train"] and shares["test"]):
        raise UserError(f"--split {text!r}: four shares are wanted, train/head/calibration/test, "
                        "such as 60/15/10/15, those of train and test above 0")  # fmt: skip
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def joined(keys: Sequence[Sequence[str]]) -> list[int]:
    """The group of each image: images that share any key are of one group, in a chain.

    A group's number is the position of its first image.
    """
    parent = list(range(len(keys)))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    first: dict[str, int] = {}
    for at, names in enumerate(keys):
        for name in names:
            one, other = sorted((root(at), root(first.setdefault(name, at))))
            parent[other] = one
    return [root(at) for at in range(len(keys))]


def deal(
    names: Sequence[str],
    classes: Sequence[str],
    groups: Sequence[int],
    shares: Mapping[Split, float],
    *,
    seed: int,
    test_only: frozenset[str] = frozenset(),
) -> list[Split]:
    """The split of each image; images of one group go together.

    Args:
        names: the images' ids.
        classes: what is kept in proportion: generator (or real) and content of each image.
        groups: the group of each image.
        shares: of each split; they sum to 1.
        seed: of the deal.
        test_only: classes of generators that are held out: their groups go to test.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for at, group in enumerate(groups):
        members[group].append(at)
    wanted = Counter(classes)
    have: Counter[tuple[Split, str]] = Counter()
    split: list[Split] = ["test"] * len(names)

    def short(name: Split, held: Counter[str]) -> float:
        """How far the split is from its share of the group's classes, relatively."""
        return sum(
            count * (1 - have[name, one] / (wanted[one] * shares[name]))
            for one, count in held.items()
        )

    def order(group: int) -> tuple[int, str]:
        # Large groups first, while there is room; equal ones by a draw.
        first = min(names[at] for at in members[group])
        return -len(members[group]), digest(b"%d" % seed, b"annotate", first.encode())

    for group in sorted(members, key=order):
        held = Counter(classes[at] for at in members[group])
        open_to = [name for name in SPLITS if shares[name]]
        chosen = max(open_to, key=lambda name, held=held: short(name, held))  # type: ignore[misc]
        chosen = "test" if held.keys() & test_only else chosen
        for at in members[group]:
            split[at] = chosen
            have[chosen, classes[at]] += 1
    return split


def check(split: Sequence[Split], origins: Sequence[str], shares: Mapping[Split, float]) -> None:
    """UserError where a split that has a share lacks an origin."""
    there = set(zip(split, origins, strict=True))
    for name in SPLITS:
        for origin in ("real", "synthetic"):
            if shares[name] and (name, origin) not in there:
                raise UserError(
                    f"{name} is left without {origin} images: too few of them, or groups too "
                    "large; give more images, another --group-by or another --split"
                )
