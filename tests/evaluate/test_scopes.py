"""Evaluate writes what it measured into the detector's folder, and says so."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from rayapp import load_detector
from rayapp.calibrate.fit import calibrate
from rayapp.calibrate.settings import CalibrateSettings
from rayapp.dataset.labels import load_scheme
from rayapp.evaluate.scopes import record_scopes
from rayapp.evaluate.settings import EvaluateSettings
from rayapp.jobs.evaluate_tables import evaluate
from rayapp.metrics.evaluation import EVALUATION_FILE, Results
from tests.detectors import listed, saved_detector, saved_scores, tiny_detector
from tests.drills.test_download import small_disk

SCHEME = load_scheme("demo")


@pytest.fixture
def given(tmp_path: Path) -> dict:
    origins = [0, 1] * 100
    items = listed(tmp_path / "test.txt", origins, SCHEME)
    logits = np.random.default_rng(1).normal(2 * np.array(origins), 1.0)
    return {
        "detector": saved_detector(tmp_path / "d"),
        "scores": saved_scores(tmp_path / "scores", tiny_detector(), items, logits, SCHEME),
        "annotations": str(tmp_path / "test.txt"),
        "scheme": "demo",
        "name": "my images",
        "resamples": 100,
        "output": str(tmp_path / "out"),
    }


def results_of(run) -> Results:
    return Results.model_validate_json(run.store.get(EVALUATION_FILE))


@pytest.mark.ray
def test_what_was_measured_stands_in_the_detector(
    given: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    digest = load_detector(given["detector"]).hash()
    run = evaluate(EvaluateSettings(**given, held_out=("pixel shuffle",)))
    assert f"{tmp_path}/d/detector.json says now what was measured\n" in capsys.readouterr().out
    detector = load_detector(given["detector"])
    assert detector.hash() == digest
    unseen, whole = detector.spec.scope.measured
    figures = results_of(run).evaluations[0].whole.figures
    assert whole.name == "my images"
    assert (whole.num_real, whole.num_synthetic, whole.threshold) == (100, 100, 0.5)
    assert whole.lists == (str(tmp_path / "test.txt"),)
    assert whole.date == run.found["finished"]
    for name in ("roc_auc", "balanced_accuracy", "false_positive_rate", "accuracy_synthetic"):
        assert whole.figures[name].model_dump() == figures[name].model_dump(exclude={"reason"})
    assert unseen.name == "my images, generators held out of training"
    assert "measured on my images, generators held out" in detector.scope_line

    # Done before: nothing is written again, and what was lost comes back.
    stamp = (tmp_path / "d/detector.json").stat().st_mtime_ns
    evaluate(EvaluateSettings(**given, held_out=("pixel shuffle",)))
    assert (tmp_path / "d/detector.json").stat().st_mtime_ns == stamp
    assert "says now" not in capsys.readouterr().out
    saved_detector(tmp_path / "d")
    evaluate(EvaluateSettings(**given, held_out=("pixel shuffle",)))
    assert load_detector(given["detector"]).spec.scope.measured == (unseen, whole)

    # A calibration moves the threshold: what was measured at the old one does not hold any more.
    fitted = calibrate(
        CalibrateSettings(
            **{name: given[name] for name in ("detector", "scores", "annotations", "scheme")},
            output=str(tmp_path / "calibrated"),
        )
    )
    scope = load_detector(fitted.store.root).spec.scope
    assert scope.calibrated is not None
    assert (scope.calibrated.num_real, scope.calibrated.num_synthetic) == (100, 100)
    assert scope.calibrated.date
    assert [set(one.figures) for one in scope.measured] == [{"roc_auc"}] * 2


@pytest.mark.ray
def test_a_detector_is_left_as_it_is_where_that_is_wanted_or_right(
    given: dict, tmp_path: Path
) -> None:
    before = Path(given["detector"], "detector.json").read_bytes()
    run = evaluate(EvaluateSettings(**given, record=False))
    results = results_of(run)
    (one,) = results.evaluations
    seen = one.model_copy(update={"notes": ("NOT A TEST: 3 of 200 images are in the lists",)})
    legacy = one.model_copy(update={"protocol": "legacy"})
    for other in (seen, legacy):
        again = results.model_copy(update={"evaluations": [other]})
        assert record_scopes(again, "2026-01-01") == []
    # Under another calibration than the detector's own, its threshold was not measured.
    foreign = one.model_copy(update={"calibration_hash": "0" * 64})
    assert Path(given["detector"], "detector.json").read_bytes() == before
    record_scopes(results.model_copy(update={"evaluations": [foreign]}), "2026-01-01")
    (found,) = load_detector(given["detector"]).spec.scope.measured
    assert found.figures.keys() == {"roc_auc"}

    with small_disk(tmp_path / "disk") as disk:
        saved_detector(disk / "d")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        moved = one.model_copy(update={"detector": str(disk / "d")})
        (line,) = record_scopes(results.model_copy(update={"evaluations": [moved]}), "2026")
        assert line == (
            f"{disk}/d/detector.json does not say what was measured: Read-only file system"
        )
