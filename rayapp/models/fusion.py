"""A fusion: several detectors whose logits become one, by weights that are fitted on scores.

Shapes: N images · P parts, the detectors that are fused.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy import special

from rayapp.config.settings import Settings

Floats = NDArray[np.float64]
FusionMethod = Literal["mean", "weighted", "stacking"]
DISAGREE = "detectors disagree"


class FusionPart(Settings):
    """One of the detectors, and what its logit says of itself and adds to the whole."""

    name: str = Field(description="what it is called in tables")
    detector_hash: str = Field(description="hash of the detector; another one is refused")
    spec: dict[str, Any] = Field(description="its detector.json; its weights lie with the others'")
    slope: float = Field(ge=0, description="of its own log-odds, slope · logit + shift")
    shift: float = Field(description="see slope")
    weight: float = Field(ge=0, description="of its log-odds in the fusion")


class Fusion(Settings):
    """bias + the sum over parts of weight · (slope · logit + shift) is the fused logit."""

    method: FusionMethod = Field(description="how the weights were fitted")
    parts: tuple[FusionPart, ...] = Field(min_length=2, description="the detectors")
    bias: float = Field(0.0, description="added to the sum")
    disagree_above: float | None = Field(
        None,
        gt=0,
        le=1,
        description="largest less smallest probability of the parts above which none is told; "
        "none: always told",
    )

    def log_odds(self, logits_NP: ArrayLike) -> Floats:
        """Of each part by itself [N, P]."""
        slopes, shifts = (np.array([getattr(p, n) for p in self.parts]) for n in ("slope", "shift"))
        return np.asarray(np.asarray(logits_NP, np.float64) * slopes + shifts)

    def fused(self, logits_NP: ArrayLike) -> Floats:
        """Fused logits [N]."""
        weights = np.array([part.weight for part in self.parts])
        return np.asarray(self.log_odds(logits_NP) @ weights + self.bias)

    def reasons(self, logits_NP: ArrayLike) -> list[str]:
        """Of each image why there is no verdict: the parts disagree; empty where they do not."""
        if self.disagree_above is None:
            return [""] * len(np.asarray(logits_NP))
        p_NP = special.expit(self.log_odds(logits_NP))
        apart_N = p_NP.max(axis=1, initial=0) - p_NP.min(axis=1, initial=1)
        return [DISAGREE if apart > self.disagree_above else "" for apart in apart_N]
