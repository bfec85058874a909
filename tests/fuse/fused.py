"""A fusion for tests, of given detectors and weights."""

from collections.abc import Sequence

from rayapp.fuse.fusion_fit import Weights, make_fusion
from rayapp.jobs.fuse import fused_detector
from rayapp.models.detector import Detector


def fused(
    parts: Sequence[Detector],
    weights: Sequence[tuple[float, float, float]],
    bias: float = 0.0,
    disagree_above: float | None = 0.8,
) -> Detector:
    """The fusion of the parts, each with (slope, shift, weight)."""
    slopes, shifts, shares = (list(one) for one in zip(*weights, strict=True))
    names = [str(at) for at in range(len(parts))]
    fitted = Weights(slopes, shifts, shares, bias)
    return fused_detector(make_fusion("mean", fitted, parts, names, disagree_above), parts)
