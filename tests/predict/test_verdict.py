import csv
import io

import numpy as np
import pytest

from rayapp.dataset import manifest, scores
from rayapp.models.calibration.calibrators import Calibration
from rayapp.predict.verdict import Judge, csv_lines


def calibration(**changes: object) -> Calibration:
    fields = {
        "method": "platt", "parameters": {"slope": 1.0, "bias": 0.0}, "threshold": 0.7,
        "band": (0.4, 0.7), "n": 10, "items_hash": "", "detector_hash": "",
        "preprocessing_hash": "",
    }  # fmt: skip
    return Calibration.model_validate(fields | changes)


def test_without_calibration_the_word_says_so():
    found = Judge("centre-32").of(np.array([-1.0, 2.0]))
    assert found.words == ["real (uncalibrated)", "synthetic (uncalibrated)"]
    assert found.margins_N[0] == pytest.approx(1 / (1 + np.e) - 0.5)


def test_three_verdicts_by_band_and_margin_by_threshold():
    found = Judge("centre-32", calibration()).of(np.array([-2.0, 0.0, 3.0]))
    assert found.words == ["real", "unsure", "synthetic"]
    np.testing.assert_allclose(found.margins_N, found.probabilities_N - 0.7)


def test_csv_keeps_every_row_and_quotes_odd_names():
    rows = [
        {"id": "a", "path": 'odd, "name".jpg', "logit": 0.5, "error": ""},
        {"id": "b", "path": "b.jpg", "logit": None, "error": "empty file (0 bytes)"},
    ]
    table = manifest.from_rows(rows, scores.schema())
    read = list(csv.DictReader(io.StringIO("".join(csv_lines([table], Judge("centre-32"))))))
    assert [row["path"] for row in read] == ['odd, "name".jpg', "b.jpg"]
    assert read[0]["verdict"] == "synthetic (uncalibrated)"
    assert read[0]["preprocessing"] == "centre-32"
    assert (read[1]["probability"], read[1]["error"]) == ("", "empty file (0 bytes)")


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0.jpg", "+1.png", "-x.png", "@sum.png"])
def test_a_spreadsheet_finds_no_formula_in_a_name(name: str):
    rows = [{"id": name, "path": name, "logit": 0.5, "error": ""}]
    lines = "".join(csv_lines([manifest.from_rows(rows, scores.schema())], Judge("centre-32")))
    assert next(iter(csv.DictReader(io.StringIO(lines))))["path"] == f"./{name}"


def test_a_threshold_of_ones_own_leaves_no_band():
    found = Judge("centre-32", calibration(), threshold=0.6).of(np.array([-2.0, 0.0, 3.0]))
    assert found.words == ["real", "real", "synthetic"]
    np.testing.assert_allclose(found.margins_N, found.probabilities_N - 0.6)


def test_of_several_classes_the_likeliest_and_its_lead():
    rows = [
        {"id": "a", "path": "a.jpg", "logits": [0.0, 2.0, 1.0], "error": ""},
        {"id": "b", "path": "b.jpg", "error": "text, not an image"},
    ]
    table = manifest.from_rows(rows, scores.schema())
    judge = Judge("centre-32", classes=("GAN", "SD", "MJ"))
    read = list(csv.DictReader(io.StringIO("".join(csv_lines([table], judge)))))
    p = np.exp([0.0, 2.0, 1.0]) / np.exp([0.0, 2.0, 1.0]).sum()
    assert (read[0]["verdict"], read[0]["logit"]) == ("SD", "2")
    assert float(read[0]["probability"]) == pytest.approx(p[1], abs=1e-6)
    assert float(read[0]["margin"]) == pytest.approx(p[1] - p[2], abs=1e-6)
    assert read[1]["verdict"] == ""


def test_variants_have_a_column_where_there_are_some():
    rows = [{"id": "a@jpeg", "path": "a.jpg", "logit": 0.5, "error": "", "variant": "jpeg"}]
    table = manifest.from_rows(rows, scores.schema())
    lines = "".join(csv_lines([table], Judge("centre-32"), variants=True))
    assert next(iter(csv.DictReader(io.StringIO(lines))))["variant"] == "jpeg"
