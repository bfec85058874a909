"""What a calibration chooses: the map to probability, the threshold, and the unsure band."""

from dataclasses import dataclass

import numpy as np

from rayapp.calibrate.settings import CalibrateSettings
from rayapp.config.defaults import EVEN_ODDS
from rayapp.config.errors import UserError
from rayapp.models.calibration import calibrators, decisions
from rayapp.models.calibration.decisions import OperatingPoint
from rayapp.models.calibration.direction import Direction
from rayapp.models.calibration.importance import Importance


@dataclass(frozen=True)
class Decisions:
    """Threshold and unsure band in probability, and what the threshold does."""

    threshold: float
    band: tuple[float, float] | None
    point: OperatingPoint


def fit_calibrator(
    settings: CalibrateSettings,
    logits_N: np.ndarray,
    labels_N: np.ndarray,
    importance: Importance | None = None,
) -> calibrators.Calibrator:
    """The map from logit to probability that the settings ask for.

    Scores that run against the labels no more than by chance are not turned round, with a warning.

    Raises:
        UserError: see `calibrators.fit`; or a rate is asked of scores that run against the labels.
    """
    method, temperature = settings.method, settings.temperature
    fitted = calibrators.fit(
        method, logits_N, labels_N, temperature=temperature, importance=importance
    )
    slope = fitted.parameters.get("slope")
    if not isinstance(slope, float) or slope > 0:
        return fitted
    if settings.fpr is not None:
        raise UserError(f"fpr {settings.fpr:g} cannot be promised: {fitted.warning}")
    even = slice(None) if importance is None else importance.even_N
    if Direction.of(logits_N[even], labels_N[even]).against:
        return fitted
    kept = calibrators.fit("bias", logits_N, labels_N, importance=importance)
    why = (
        f"{fitted.method} would turn the scores round (slope {slope:.3g}), which {len(labels_N)} "
        "images can't tell from chance: they keep their direction, and the bias alone is fitted"
    )
    return kept.model_copy(update={"warning": "; ".join(filter(None, (why, kept.warning)))})


def decide(
    settings: CalibrateSettings,
    probabilities_N: np.ndarray,
    labels_N: np.ndarray,
    *,
    slices_N: np.ndarray | None = None,
    photographs_N: np.ndarray | None = None,
    importance: Importance | None = None,
) -> Decisions:
    """Threshold and band, chosen on the calibration images alone.

    Args:
        settings: what is asked of them.
        probabilities_N: of the calibration images.
        labels_N: 1 synthetic, 0 real.
        slices_N: name of each image's slice by `fpr_by`.
        photographs_N: what is behind each image; the images of one are not independent.
        importance: of images that were not drawn alike; rates are of the even sample.

    Raises:
        UserError: too few reals for the rate, see `decisions.check_reals`.
    """
    threshold, fpr, by = EVEN_ODDS, settings.fpr, settings.fpr_by or ""
    even = slice(None) if importance is None else importance.even_N
    p_E, labels_E = probabilities_N[even], labels_N[even]
    named = {"slices_N": slices_N, "photographs_N": photographs_N}
    apart = {name: None if of is None else of[even] for name, of in named.items()}
    if fpr is not None:
        threshold = decisions.threshold_at_fpr(
            p_E, labels_E, fpr, settings.confidence, by=by, **apart
        )
    band = decisions.abstain_band(
        probabilities_N,
        labels_N,
        threshold,
        settings.band_error,
        settings.prevalence,
        None if importance is None else importance.weights_N,
    )
    reals = decisions.reals_by_slice(p_E, labels_E, **apart)
    num_reals = sum(map(len, reals.values()))
    synthetic = labels_E == 1
    point = OperatingPoint(
        fpr=fpr,
        confidence=settings.confidence,
        by=by,
        unit="images" if num_reals == (~synthetic).sum() else "photographs",
        rates=decisions.rates_at(threshold, reals, None if fpr is None else settings.confidence),
        num_synthetic=int(synthetic.sum()),
        num_found=int((p_E[synthetic] >= threshold).sum()),
    )
    return Decisions(threshold, band, point)
