import numpy as np
import pytest

from rayapp.dataset.declared import Declaration, Declared
from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.verdicts import Judge


def calibration(**changes: object) -> Calibration:
    fields = {
        "method": "platt",
        "parameters": {"slope": 1.0, "bias": 0.0},
        "threshold": 0.7,
        "band": (0.4, 0.7),
        "n": 10,
        "items_hash": "",
        "detector_hash": "",
        "preprocessing_hash": "",
    }
    return Calibration.model_validate(fields | changes)


def test_without_calibration_the_word_says_so():
    found = Judge("centre-32").of(np.array([-1.0, 2.0]))
    assert found.words == ["real (uncalibrated)", "synthetic (uncalibrated)"]
    assert found.margins_N[0] == pytest.approx(1 / (1 + np.e) - 0.5)


def test_three_verdicts_by_band_and_margin_by_threshold():
    found = Judge("centre-32", calibration()).of(np.array([-2.0, 0.0, 3.0]))
    assert found.words == ["real", "unsure", "synthetic"]
    np.testing.assert_allclose(found.margins_N, found.probabilities_N - 0.7)


def test_a_threshold_of_ones_own_leaves_no_band():
    found = Judge("centre-32", calibration(), threshold=0.6).of(np.array([-2.0, 0.0, 3.0]))
    assert found.words == ["real", "real", "synthetic"]
    np.testing.assert_allclose(found.margins_N, found.probabilities_N - 0.6)


def test_a_judgement_says_why_it_is_unsure_and_that_none_is_calibrated():
    one = Judge("centre-32", calibration()).judged(np.array([0.0, 3.0, np.nan]))
    assert [j.verdict for j in one] == ["unsure", "synthetic", ""]
    assert "lies in 0.4 … 0.7" in one[0].reason
    assert (one[1].reason, one[1].threshold) == ("", 0.7)
    assert (one[2].probability, one[2].error) == (None, "the detector gave NaN")
    (endless,) = Judge("centre-32", calibration()).judged(np.array([np.inf]))
    assert endless.error == "the detector gave an infinite score"
    (bare,) = Judge("centre-32").judged(np.array([2.0]))
    assert (bare.verdict, bare.reason, bare.threshold) == ("synthetic", "uncalibrated", 0.5)


def test_where_nothing_can_be_judged_the_word_is_unsure_and_the_figures_stay():
    for judge in (Judge("c"), Judge("c", calibration()), Judge("c", calibration(), 0.6)):
        blank, sure = judge.judged(np.array([3.0, 3.0]), ["nothing but noise", ""])
        assert (blank.verdict, blank.reason) == ("unsure", "nothing but noise")
        assert blank.probability == sure.probability
        assert (sure.verdict, sure.reason) != (blank.verdict, blank.reason)
    (named,) = Judge("c", classes=("a", "b")).judged(np.array([[0.0, 2.0]]), ["nothing but noise"])
    assert (named.verdict, named.reason) == ("unsure", "nothing but noise")


def test_what_a_calibration_decides_on_its_own_images_is_counted_and_changes_no_hash():
    plain = calibration()
    seen = plain.with_observed([0.1, 0.5, 0.9, 0.8, 0.3, 0.6, 0.95], [0, 0, 0, 1, 1, 1, 1])
    assert seen.observed is not None
    counted = seen.observed.model_dump()
    assert counted == {
        "num_real": 3,
        "num_synthetic": 4,
        "false_synthetic": 1,
        "false_real": 1,
        "unsure_real": 1,
        "unsure_synthetic": 1,
    }
    assert seen.hash == plain.hash


def test_what_files_declare_conflicts_and_decides_only_as_trusted():
    camera = Declared((Declaration("camera", "C2PA", "PNG", "verified", ""),))
    edited = Declared((Declaration("ai-edited", "text", "PNG", "unverified", ""),))
    broken = Declared((Declaration("ai-generated", "C2PA", "PNG", "broken", ""),))
    said = [camera, edited, broken, Declared()]
    logits = np.array([3.0, -2.0, -2.0, 3.0])
    words = {
        "none": ["synthetic", "real", "real", "synthetic"],
        "signed": ["real", "real", "real", "synthetic"],
        "any": ["real", "real", "real", "synthetic"],
    }
    for trust, expected in words.items():
        found = Judge("c", calibration(), trust_declared=trust).judged(logits, (), said)
        assert [one.verdict for one in found] == expected
        assert [bool(one.conflict) for one in found] == [True, True, True, False]
        assert [one.declared for one in found] == ["camera", "ai-edited", "ai-generated", "nothing"]
    unsure = Judge("c", calibration()).judged(np.array([0.0]), (), [camera])
    assert (unsure[0].verdict, unsure[0].conflict) == ("unsure", "")
