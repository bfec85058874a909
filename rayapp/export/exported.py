"""What an export is made of, and the check that it says what the detector says.

Shapes: N images · H W.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import special

from rayapp.config.errors import JobFailed, UserError
from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.detector import Detector
from rayapp.models.preprocessing import Pixels

EXACT, HALF = 1e-4, 5e-3  # largest change of a probability that an export may make
_AFFINE = frozenset({"bias", "temperature", "platt"})  # of a logit: part of the last layer
_SIDES_HW = ((480, 640), (640, 480), (512, 512), (333, 747))


@dataclass(frozen=True)
class Exported:
    """Files by name, and what is not as in the detector itself."""

    files: Mapping[str, bytes]
    notes: list[str] = field(default_factory=list)


def last_layer(calibration: Calibration | None) -> tuple[float, float]:
    """Slope and offset on the logit that the calibration is; 1 and 0 where it is no such map."""
    if calibration is None or calibration.method not in _AFFINE:
        return 1.0, 0.0
    # Of its parameters, not of what it gives, which is rounded to 0 or 1 where it is steep.
    value = {name: one for name, one in calibration.parameters.items() if isinstance(one, float)}
    slope = 1 / value["temperature"] if "temperature" in value else value.get("slope", 1.0)
    shift = 0.0  # from the share of synthetic images it was fitted at to the one that was asked for
    if calibration.prevalence is not None and calibration.share_synthetic is not None:
        shift = float(special.logit(calibration.prevalence))
        shift -= float(special.logit(calibration.share_synthetic))
    return slope, value.get("bias", 0.0) + shift


def calibration_note(calibration: Calibration | None) -> list[str]:
    """In words, where the calibration could not go into the last layer."""
    if calibration is None or calibration.method in _AFFINE:
        return []
    return [f"its calibration ({calibration.method}) is not part of the export: p is uncalibrated"]


def expected(detector: Detector, images: list[Pixels]) -> NDArray[np.float64]:
    """Probabilities float64 [N] that the export has to give."""
    logits_N = detector.logits(images).astype(np.float64)
    slope, offset = last_layer(detector.spec.calibration)
    return np.asarray(special.expit(slope * logits_N + offset))


def check(detector: Detector, again: Detector, bound: float) -> float:
    """The largest difference of a probability between the detector and its export.

    Raises:
        JobFailed: it is above the bound; nothing should be written then.
    """
    images = probe_images()
    if not np.isfinite(again.logits(images)).all():
        raise JobFailed("the export gives scores that are not finite; nothing was written")
    # At steep logits every probability is 0 or 1, and hides a difference: that counts as well.
    ours_N, theirs_N = expected(detector, images), again.probability(images).astype(np.float64)
    largest = float(np.abs(ours_N - theirs_N).max())
    if not largest <= bound:
        raise JobFailed(
            f"the export differs from the detector by {largest:.2g} in probability, "
            f"{bound:g} at most are allowed; nothing was written"
        )
    return largest


def probe_images() -> list[Pixels]:
    """Images of noise, of gradients and of both, high and wide: the same every time."""
    rng = np.random.default_rng(0)
    found = []
    for height, width in _SIDES_HW:
        down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
        smooth_HWC = 255 * np.stack([down, across, 1 - down * across], axis=-1)
        noise_HWC = rng.integers(0, 256, (height, width, 3))
        for share in (0.0, 0.1, 1.0):
            mixed_HWC = (1 - share) * smooth_HWC + share * noise_HWC
            found.append(mixed_HWC.astype(np.uint8))
    return found


def check_one_logit(detector: Detector, uri: str) -> None:
    """Nothing where the detector tells real from synthetic.

    Raises:
        UserError: it tells other classes apart.
    """
    if detector.spec.architecture.head.num_outputs > 1:
        column = detector.spec.labels.column
        raise UserError(f"{uri}: tells {column} apart; only real from synthetic is exported")
