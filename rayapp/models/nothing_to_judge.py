"""Pictures that hold nothing to judge by: a network's score of them means nothing, so none is told.

Looked at is what the detector sees of a picture, its mirrored edge left off; every view must hold
nothing. The rules, with levels of 0 to 255 and n the shorter side of what is seen:

- too few pixels: fewer than half as many as the view has, the rest is mirrored or enlarged (of a
  user's own detector: a shorter side below 96 px); or a shorter side below the detector's minimum
- one colour: 99.5 % of the pixels within 2 levels of the median one
- a smooth gradient: a surface of second degree leaves at most 14 % of what it changes in grey, or
  20 % in the colour that changes most, of 98 % of the means of squares of n/16
- drawn by a program (plain areas, or a gradient where there are no steps): 97 % of the pixels
  within 0.5 levels of the mean of 3 × 3 (0.7 where half are off by 0.3, as rounding leaves them),
  but for thin steps; or so few rows and columns differ from the one before that both shares'
  product is below a sixteenth
- noise: neighbouring squares have little to do with each other (means of n/8 and n/16 correlate by
  less than 0.3), and either neighbouring pixels neither (0.65) and all parts vary alike; or two
  octaves are spread as Gauss's curve is (kurtosis 2.3 to 3.4) and alike in all sixteenths
- a repeating pattern: fine structure (what a 9-px mean takes away) comes again after some shift
  along the rows, and after some along the columns, with less than 0.4 of the energy that unlike
  parts would leave (below 192 px: 0.15); or it is itself again when turned by half a circle around
  some point (0.09), and lines of more than one direction do so or all else is quiet

How often they hold of real photographs, and of pictures made of nothing, is measured by
`benchmarks/nothing_to_judge.py`. Shapes: K views · H W · C channels.
"""

from collections.abc import Iterator

from rayapp.dataset.images import Pixels
from rayapp.models.detector_spec import Preprocessing
from rayapp.models.empty_views import shown_alone

TOO_FEW = "too few pixels"
_LEAST_SEEN = 0.5  # of a view's pixels are the picture's own
_LEAST_SIDE = 96  # px, of a detector that does not say how large its view is
_TILE = 256  # px, of a picture that is seen whole


def nothing_to_judge(
    views_KHWC: Pixels,
    size_HW: tuple[int, int],
    preprocessing: Preprocessing | None,
    min_side_px: int | None = None,
) -> str:
    """Why a picture cannot be judged, `` where it can.

    Args:
        views_KHWC: uint8, what the detector sees of it; of a user's own detector the picture.
        size_HW: of the picture.
        preprocessing: how the views were cut; None: the picture is seen whole.
        min_side_px: the shorter side from which on the detector judges.
    """
    height, width = size_HW
    if min_side_px and min(size_HW) < min_side_px:
        return f"{TOO_FEW}: {width}×{height}, this detector judges from {min_side_px} px on"
    if few := _few_pixels(size_HW, preprocessing):
        return f"{TOO_FEW}: {width}×{height}, {few}"
    reason = ""
    for part_HWC in _parts(views_KHWC, size_HW, preprocessing):
        if not (found := shown_alone(part_HWC)):
            return ""
        reason = reason or found
    return reason


def kind_of(reason: str) -> str:
    """A reason without what it says of this one picture, for counting."""
    return reason.partition(":")[0]


def _few_pixels(size_HW: tuple[int, int], preprocessing: Preprocessing | None) -> str:
    if preprocessing is None:
        return f"from {_LEAST_SIDE} px on there is enough" if min(size_HW) < _LEAST_SIDE else ""
    size = preprocessing.size
    if preprocessing.view == "resize":
        side = max(preprocessing.resize_to or size, size)
        seen, rest = min(min(size_HW) / side, 1.0) ** 2, "enlarged"
    else:
        height, width = (min(side, size) for side in size_HW)
        seen, rest = height * width / size**2, "most of it mirrored"
    return f"seen as {size}×{size}, {rest}" if seen < _LEAST_SEEN else ""


def _parts(
    views_KHWC: Pixels, size_HW: tuple[int, int], preprocessing: Preprocessing | None
) -> Iterator[Pixels]:
    """What the views show of the picture itself."""
    if preprocessing is None:
        for top in range(0, max(size_HW[0] - _TILE // 2, 1), _TILE):
            for left in range(0, max(size_HW[1] - _TILE // 2, 1), _TILE):
                yield views_KHWC[0, top : top + _TILE, left : left + _TILE]
        return
    size = preprocessing.size
    if preprocessing.view == "resize":
        yield from views_KHWC
        return
    height, width = (min(side, size) for side in size_HW)
    top, left = (size - height) // 2, (size - width) // 2
    yield from views_KHWC[:, top : top + height, left : left + width]
