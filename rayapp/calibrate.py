"""Calibration: from stored scores to a detector that says how sure it is."""

from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from rayapp import load_detector, runs
from rayapp.images import sha256
from rayapp.labels import load_scheme, read_list
from rayapp.models import calibrators, decisions
from rayapp.models.calibrator_fits import Method
from rayapp.models.calibrators import Calibration
from rayapp.models.detector import Detector
from rayapp.models.folder import save_detector
from rayapp.scores import SCORES_FILE, read_scores, select
from rayapp.settings import JobSettings
from rayapp.storage import open_store, read_uri


class CalibrateSettings(JobSettings):
    """Fit the map from logit to probability, and the threshold and band, on calibration images."""

    detector: str = Field(description="folder or s3:// prefix of the detector")
    scores: str = Field(description="output of predict that holds the calibration images")
    annotations: str = Field(description="list of the calibration images")
    scheme: str = Field("imaginet", description="label scheme of the list")
    method: Method | Literal["auto"] = Field(
        "platt", description="auto chooses by cross-validation"
    )
    temperature: float | None = Field(
        None, gt=0, description="this one with method temperature, instead of the fitted one"
    )
    fpr: float | None = Field(
        None, gt=0, lt=1, description="threshold at this false-positive rate; else 0.5"
    )
    band_error: float = Field(
        0.05, gt=0, lt=0.5, description="share of wrong answers outside the unsure band, at most"
    )

    @model_validator(mode="after")
    def _temperature_is_a_method(self) -> Self:
        if self.temperature is not None and self.method != "temperature":
            raise ValueError(f"temperature goes with method temperature, not {self.method}")
        return self


def fit_calibrator(
    settings: CalibrateSettings, logits_N: np.ndarray, labels_N: np.ndarray
) -> calibrators.Calibrator:
    """The map from logit to probability that the settings ask for.

    Raises:
        UserError: see `calibrators.fit`.
    """
    if settings.temperature is None:
        return calibrators.fit(settings.method, logits_N, labels_N)
    return calibrators.Calibrator(
        method="temperature",
        parameters={"temperature": settings.temperature},
        n=len(logits_N),
    )


def calibrate(settings: CalibrateSettings) -> runs.Run:
    """Write the calibrated detector; the fit's figures are in the run that is returned.

    Raises:
        UserError: scores of another detector, an image without a score, one class only.
    """
    detector = load_detector(settings.detector)
    store = open_store(settings.scores)
    inputs = {
        "detector": detector.hash(),
        "scores": sha256(read_uri(store.uri(SCORES_FILE))),
        "annotations": sha256(read_uri(settings.annotations)),
    }
    run = runs.start(
        "calibrate", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if run.state == "done":
        return run
    scheme = load_scheme(settings.scheme)
    items = read_list(settings.annotations, scheme).items
    rows = select(read_scores(store, inputs["detector"]), items, scheme, settings.annotations)
    logits = rows["logit"].to_numpy().astype(np.float64)
    labels = rows["origin"].to_numpy().astype(np.int64)
    fitted = fit_calibrator(settings, logits, labels)
    calibration = _decided(fitted, logits, labels, settings, detector, inputs)
    spec = detector.spec.model_copy(update={"calibration": calibration})
    save_detector(Detector(detector.network, spec), run.store)
    counts = {"in": len(labels), "real": int((labels == 0).sum()), "synthetic": int(labels.sum())}
    run.finish(
        counts,
        {
            "method": fitted.method,
            "parameters": fitted.parameters,
            "slope_interval": fitted.slope_interval,
            "warning": fitted.warning,
            "threshold": calibration.threshold,
            "band": calibration.band,
        },
    )
    return run


def _decided(
    fitted: calibrators.Calibrator,
    logits_N: np.ndarray,
    labels_N: np.ndarray,
    settings: CalibrateSettings,
    detector: Detector,
    inputs: dict[str, str],
) -> Calibration:
    """Threshold and band, chosen on the calibration images alone."""
    probabilities = fitted.apply(logits_N)
    threshold = 0.5
    if settings.fpr is not None:
        threshold = decisions.threshold_at_fpr(probabilities, labels_N, settings.fpr)
    band = decisions.abstain_band(probabilities, labels_N, threshold, settings.band_error)
    return Calibration(
        method=fitted.method,
        parameters=fitted.parameters,
        threshold=threshold,
        band=band,
        n=len(labels_N),
        items_hash=inputs["annotations"],
        detector_hash=inputs["detector"],
        preprocessing_hash=detector.spec.preprocessing.hash,
    )
