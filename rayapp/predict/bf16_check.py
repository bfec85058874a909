"""Whether bf16 is harmless: asked of the detector itself, on a few of the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import special

from rayapp.config.errors import UserError
from rayapp.dataset.images import ImageError, decode
from rayapp.dataset.members import read_image
from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.detector import Detector
from rayapp.predict.score import make_scorer
from rayapp.storage.store import Store

# Half of what is promised (0.01), for few images are looked at.
TOLERANCE = 0.005
NUM_IMAGES = 4
Row = dict[str, Any]


@dataclass(frozen=True)
class Bf16Check:
    """The largest change of a probability that bf16 made, on so many images."""

    largest: float
    num_images: int

    @property
    def harmless(self) -> bool:
        """Whether bf16 may be used; nothing is known without an image."""
        return self.num_images > 0 and self.largest <= TOLERANCE


def chosen(images: pa.Table) -> list[Row]:
    """The rows of the images to look at, spread evenly over the table."""
    total = images.num_rows
    count = min(NUM_IMAGES, total)
    rows: list[Row] = images.take([at * total // count for at in range(count)]).to_pylist()
    return rows


def check_bf16(detector: Detector, root: Store, images: Sequence[Row]) -> Bf16Check:
    """Score the images in float32 and in bf16; files that can't be read are left out."""
    exact = make_scorer(detector, bf16=False, at_once=1)
    seen = []
    for row in images:
        try:
            # One view is enough, and an image may have hundreds.
            seen.append(exact.see(decode(read_image(root, row)).pixels_HWC)[:1])
        except (ImageError, OSError, UserError):
            continue
    if not seen:
        return Bf16Check(0.0, 0)
    rounded = make_scorer(detector, bf16=True, at_once=1)
    before, after = (
        _probabilities(np.array(scorer.score(seen)), detector.spec.calibration)
        for scorer in (exact, rounded)
    )
    return Bf16Check(float(np.abs(before - after).max()), len(seen))


def _probabilities(logits_NE: np.ndarray, calibration: Calibration | None) -> np.ndarray:
    if logits_NE.shape[1] > 1:
        return np.asarray(special.softmax(logits_NE, axis=1))
    return calibration.apply(logits_NE) if calibration else np.asarray(special.expit(logits_NE))
