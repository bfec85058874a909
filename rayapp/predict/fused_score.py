"""Logits of images under a fusion: each is decoded once, and seen by every part in its own way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayapp.models.detector import Detector
from rayapp.models.preprocessing import Pixels
from rayapp.predict.score import Logits, NetworkScorer


@dataclass(frozen=True)
class SeenByEach:
    """What each part of a fusion keeps of one image."""

    views: tuple[Pixels, ...]

    def __len__(self) -> int:
        """Views of the part that has most."""
        return max(map(len, self.views))

    def __getitem__(self, some: slice) -> "SeenByEach":
        """Some of each part's views."""
        return SeenByEach(tuple(views[some] for views in self.views))


class FusedScorer:
    """Scores by every part of a fusion; arguments are those of NetworkScorer, for each part."""

    def __init__(self, detector: Detector, *, gpu_share: float = 1.0, **options: Any) -> None:
        assert detector.spec.fusion is not None
        self.detector_hash = detector.hash()
        self.preprocessing_hash = detector.spec.preprocessing.hash
        self._fusion = detector.spec.fusion
        share = gpu_share / len(detector.parts)
        self.parts = [NetworkScorer(one, gpu_share=share, **options) for one in detector.parts]
        self.at_once = max(part.at_once for part in self.parts)

    def see(self, pixels_HWC: Pixels) -> SeenByEach:
        """Each part's views."""
        return SeenByEach(tuple(part.see(pixels_HWC) for part in self.parts))

    def nothing_in(self, seen: SeenByEach, size_HW: tuple[int, int]) -> str:
        """As the first part finds, where none finds anything to judge."""
        pairs = zip(self.parts, seen.views, strict=True)
        found = [part.nothing_in(views, size_HW) for part, views in pairs]
        return found[0] if all(found) else ""

    def score(self, seen: Sequence[Any]) -> list[Logits]:
        """Fused logits."""
        return [logits for logits, _ in self.score_with_reasons(seen)]

    def score_with_reasons(self, seen: Sequence[SeenByEach]) -> list[tuple[Logits, str]]:
        """Fused logits, each with the reason why there is no verdict, if there is one."""
        if not seen:
            return []
        logits_PN = [
            [logits[0] for logits in part.score([one.views[at] for one in seen])]
            for at, part in enumerate(self.parts)
        ]
        logits_NP = np.array(logits_PN).T
        pairs = zip(self._fusion.fused(logits_NP), self._fusion.reasons(logits_NP), strict=True)
        return [((float(logit),), reason) for logit, reason in pairs]


def make_scorer(detector: Detector, **options: Any) -> NetworkScorer | FusedScorer:
    """What scores by a detector, one alone or a fusion; options are those of NetworkScorer."""
    if detector.spec.fusion:
        return FusedScorer(detector, **options)
    return NetworkScorer(detector, **options)
