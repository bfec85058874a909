"""Images that belong together: one photograph, one prompt, one scene."""

from collections.abc import Sequence


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
