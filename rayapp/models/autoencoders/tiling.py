"""A local function of an image done tile by tile, equal to the whole but for rounding.

Shapes: N images · C channels · H W.
"""

import itertools
from collections.abc import Callable, Iterator

from torch import Tensor


def in_tiles(
    local: Callable[[Tensor], Tensor],
    whole_NCHW: Tensor,
    *,
    side: int,
    halo: int,
    unit: int,
    scale: tuple[int, int],
) -> Tensor:
    """`local(whole)`, made of tiles that overlap by the halo, which is thrown away.

    Args:
        local: whose outputs look no further than the halo. At the image's own border a tile has
            none, so that padding is where the whole has it.
        whole_NCHW: the input.
        side: largest side of a tile without its halo; an image no larger is done at once.
        halo: how far an output looks, a multiple of `unit`.
        unit: tiles begin at multiples of it.
        scale: sides grow by the first and shrink by the second.
    """
    height, width = whole_NCHW.shape[2:]
    if height <= side and width <= side:
        return local(whole_NCHW)
    up, down = scale
    result_NCHW: Tensor | None = None
    for top, bottom in _cuts(height, side, unit):
        for left, right in _cuts(width, side, unit):
            above, before = max(top - halo, 0), max(left - halo, 0)
            tile_NCHW = whole_NCHW[:, :, above : bottom + halo, before : right + halo]
            made_NCHW = local(tile_NCHW.contiguous())
            if result_NCHW is None:
                shape = (*made_NCHW.shape[:2], height * up // down, width * up // down)
                result_NCHW = made_NCHW.new_empty(shape)
            y, x = (top - above) * up // down, (left - before) * up // down
            at = [value * up // down for value in (top, bottom, left, right)]
            inside_NCHW = made_NCHW[:, :, y : y + at[1] - at[0], x : x + at[3] - at[2]]
            result_NCHW[:, :, at[0] : at[1], at[2] : at[3]] = inside_NCHW
            del made_NCHW, inside_NCHW, tile_NCHW
    assert result_NCHW is not None  # no side is 0
    return result_NCHW


def _cuts(length: int, side: int, unit: int) -> Iterator[tuple[int, int]]:
    """Parts of about equal length, from and to."""
    count = -(-length // side)
    edges = [length * at // count // unit * unit for at in range(count)] + [length]
    yield from itertools.pairwise(edges)
