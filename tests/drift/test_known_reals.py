"""False positives on images that a person marked as real."""

import numpy as np
import pyarrow as pa
import pytest

from rayapp.config.errors import UserError
from rayapp.dataset import manifest, scores
from rayapp.dataset.marks import Marks
from rayapp.drift.known_reals import known_reals
from rayapp.models.calibration.decisions import OperatingPoint, Rate
from rayapp.models.verdicts import Judge
from tests.models.test_verdicts import calibration


def table(logits: np.ndarray) -> pa.Table:
    rows = [
        {"id": f"{at}.png", "path": f"{at}.png", "logit": float(one), "status": "ok"}
        for at, one in enumerate(logits)
    ]
    return manifest.from_rows(rows, scores.schema())


def promised() -> Judge:
    rates = (Rate(slice="all", num_real=100, num_flagged=1),)
    point = OperatingPoint(fpr=0.02, rates=rates, num_synthetic=9, num_found=9)
    return Judge("", calibration(operating_point=point))


def test_of_reals_that_were_drawn_alike_all_count() -> None:
    logits = np.where(np.arange(200) < 10, 3.0, -3.0)  # the first ten are called synthetic
    origins = {f"{at}.png": int(at >= 150) for at in range(200)}
    found = known_reals(Marks(origins, dict.fromkeys(origins, 4.0)), table(logits), promised(), [])
    assert (found.num, found.num_flagged, found.num_marked) == (150, 10, 150)
    assert found.interval == pytest.approx((0.0325, 0.1192), abs=1e-3)
    assert found.broken
    assert found.promised == 0.02


def test_of_others_an_even_sample_counts() -> None:
    """Half of the marks are of the surest, which stand for themselves alone."""
    num = 2000
    logits = np.where(np.arange(num) < num // 2, 3.0, -3.0)
    origins = {f"{at}.png": 0 for at in range(num)}
    weights = {f"{at}.png": 1.0 if at < num // 2 else 50.0 for at in range(num)}
    found = known_reals(Marks(origins, weights), table(logits), promised(), [])
    assert num // 2 <= found.num < num * 0.55
    assert found.rate == pytest.approx(1 / 51, abs=0.015)


def test_what_has_no_score_is_named() -> None:
    marks = Marks({"0.png": 0, "gone.png": 0}, {"0.png": 1.0, "gone.png": 1.0})
    with pytest.raises(
        UserError, match=r"1 of 2 marked images have no score in s; first: gone\.png"
    ):
        known_reals(marks, table(np.zeros(1)), promised(), ["s"])
    with pytest.raises(UserError, match="no image is marked real"):
        known_reals(Marks({"0.png": 1}, {"0.png": 1.0}), table(np.zeros(1)), promised(), ["s"])
