"""What a logit means under a detector's calibration: probability, verdict, margin."""

import csv
import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import special

from rayapp.models.calibrators import Calibration
from rayapp.models.detector import Detector

UNCALIBRATED = "uncalibrated"
_WORDS = {1: "synthetic", 0: "real", -1: "unsure"}
_COLUMNS = ("path", "logit", "probability", "verdict", "margin", "preprocessing", "error")


@dataclass(frozen=True)
class Verdicts:
    """One entry an image: probability of synthetic, word, and probability minus threshold."""

    probabilities_N: np.ndarray
    words: list[str]
    margins_N: np.ndarray


def judge(logits_N: np.ndarray, calibration: Calibration | None) -> Verdicts:
    """Verdicts of the calibration; without one the sigmoid at 0.5, marked `uncalibrated`."""
    if calibration is None:
        probabilities = special.expit(np.asarray(logits_N, dtype=np.float64))
        words = [f"{_WORDS[int(p >= 0.5)]} ({UNCALIBRATED})" for p in probabilities]
        return Verdicts(probabilities, words, probabilities - 0.5)
    probabilities = calibration.apply(logits_N)
    words = [_WORDS[int(decision)] for decision in calibration.decide(probabilities)]
    return Verdicts(probabilities, words, probabilities - calibration.threshold)


def as_csv(scores: pa.Table, detector: Detector) -> str:
    """A score table for people, one line an image; an image that failed has its error."""
    view = detector.spec.preprocessing
    preprocessing = f"{view.view}-{view.size}"
    logits = scores["logit"].to_numpy(zero_copy_only=False).astype(np.float64)
    scored = np.flatnonzero(~np.isnan(logits))
    verdicts = judge(logits[scored], detector.spec.calibration)
    figures = {
        int(row): (f"{logits[row]:.6g}", f"{p:.6f}", word, f"{margin:+.6f}")
        for row, p, word, margin in zip(
            scored, verdicts.probabilities_N, verdicts.words, verdicts.margins_N, strict=True
        )
    }
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(_COLUMNS)
    pairs = zip(scores["path"].to_pylist(), scores["error"].to_pylist(), strict=True)
    for row, (path, error) in enumerate(pairs):
        writer.writerow([path, *figures.get(row, ("",) * 4), preprocessing, error])
    return sink.getvalue()
