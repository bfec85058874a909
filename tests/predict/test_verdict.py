import csv
import io

import numpy as np
import pytest

from rayapp import manifest, scores
from rayapp.models.calibrators import Calibration
from rayapp.predict.verdict import as_csv, judge
from tests.detectors import tiny_detector


def calibration(**changes: object) -> Calibration:
    fields = {
        "method": "platt", "parameters": {"slope": 1.0, "bias": 0.0}, "threshold": 0.7,
        "band": (0.4, 0.7), "n": 10, "items_hash": "", "detector_hash": "",
        "preprocessing_hash": "",
    }  # fmt: skip
    return Calibration.model_validate(fields | changes)


def test_without_calibration_the_word_says_so():
    found = judge(np.array([-1.0, 2.0]), None)
    assert found.words == ["real (uncalibrated)", "synthetic (uncalibrated)"]
    assert found.margins_N[0] == pytest.approx(1 / (1 + np.e) - 0.5)


def test_three_verdicts_by_band_and_margin_by_threshold():
    found = judge(np.array([-2.0, 0.0, 3.0]), calibration())
    assert found.words == ["real", "unsure", "synthetic"]
    np.testing.assert_allclose(found.margins_N, found.probabilities_N - 0.7)


def test_csv_keeps_every_row_and_quotes_odd_names():
    rows = [
        {"id": "a", "path": 'odd, "name".jpg', "logit": 0.5, "error": ""},
        {"id": "b", "path": "b.jpg", "logit": None, "error": "empty file (0 bytes)"},
    ]
    table = manifest.from_rows(rows, scores.schema())
    read = list(csv.DictReader(io.StringIO(as_csv(table, tiny_detector()))))
    assert [row["path"] for row in read] == ['odd, "name".jpg', "b.jpg"]
    assert read[0]["verdict"] == "synthetic (uncalibrated)"
    assert read[0]["preprocessing"] == "centre-32"
    assert (read[1]["probability"], read[1]["error"]) == ("", "empty file (0 bytes)")
