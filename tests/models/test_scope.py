"""What a detector's verdicts rest on: kept in detector.json, said in a line, part of no hash."""

import json
from pathlib import Path

import pytest

from rayapp.config.errors import UserError
from rayapp.models.detector import Detector
from rayapp.models.folder import load_detector, read_spec, save_detector, write_scope
from rayapp.models.published_weights import PUBLISHED
from rayapp.models.scope import (
    UNKNOWN,
    UNMEASURED,
    Images,
    Measured,
    Quantity,
    Scope,
    published_scope,
)
from rayapp.storage.uris import open_store
from tests.detectors import tiny_detector

TRAINED = Images(
    lists=("runs/x/train.txt", "s3://b/head.txt"),
    num_real=1200,
    num_synthetic=800,
    generators=("A", "B"),
    date="2026-01-02T03:04:05Z",
)


def measured(name: str = "Own images", auc: float = 0.9, date: str = "2026-02-03") -> Measured:
    figures = {
        "roc_auc": Quantity(value=auc, low=auc - 0.1, high=auc + 0.05),
        "false_positive_rate": Quantity(value=0.125, low=0.02, high=0.3),
    }
    return Measured(
        name=name, num_real=24, num_synthetic=30, figures=figures, threshold=0.5, date=date
    )


def test_a_detector_says_in_one_line_what_it_rests_on() -> None:
    scope = Scope(trained=TRAINED).with_measured(measured())
    assert scope.line() == (
        "trained on train.txt, head.txt (1,200 real, 800 synthetic by A, B); measured on "
        "Own images (24 real, 30 synthetic): ROC AUC 0.900 (0.800–0.950), "
        "false-positive rate 12.5 % (2.0–30.0) (2026-02-03)"
    )
    about = Scope(about="a toy", trained=TRAINED)
    assert about.line() == f"a toy; {UNMEASURED}"
    assert Scope().line() == f"{UNKNOWN}; {UNMEASURED}"
    detector = tiny_detector()
    spec = detector.spec.model_copy(update={"scope": scope})
    said = repr(Detector(detector.network, spec))
    assert said == f"Detector(highpass-small; {scope.line()})"


def test_a_set_measured_again_gives_way_and_a_newer_one_stays() -> None:
    first, other = measured(auc=0.8), measured("Others", date="2025-01-01")
    again = measured(auc=0.85, date="2026-03-04")
    scope = Scope().with_measured(first).with_measured(other).with_measured(again)
    assert scope.measured == (again, other)
    assert scope.with_measured(first) is scope
    assert scope.with_measured(other) is scope  # said again, nothing moves


def test_another_calibration_moves_the_threshold_and_what_was_measured_at_it_goes() -> None:
    rates = Measured(name="reals", figures={"false_positive_rate": Quantity(value=0.1)})
    on = Images(lists=("calibration.txt",), num_real=3, num_synthetic=4)
    scope = Scope(measured=(measured(), rates)).recalibrated(on)
    assert scope.calibrated == on
    (kept,) = scope.measured
    assert (kept.figures.keys(), kept.threshold) == ({"roc_auc"}, None)


def test_what_others_measured_of_a_published_detector_outlives_its_calibration() -> None:
    before = published_scope("commfor")
    after = before.recalibrated(Images()).recalibrated(Images())
    assert [one.figures for one in after.measured] == [one.figures for one in before.measured]
    assert "as on the web (to 768 px, JPEG 60), before calibration: balanced" in after.line()
    assert published_scope("imaginet").recalibrated(Images()).measured == (
        published_scope("imaginet").measured
    )


def test_no_hash_depends_on_the_scope_and_nothing_else_is_written(tmp_path: Path) -> None:
    detector, store = tiny_detector(), open_store(tmp_path)
    digest = save_detector(detector, store)
    before = json.loads((tmp_path / "detector.json").read_text())
    weights = (tmp_path / "model.safetensors").stat().st_mtime_ns
    scope = Scope(trained=TRAINED, measured=(measured(),))
    write_scope(store, scope, digest)
    after = json.loads((tmp_path / "detector.json").read_text())
    assert before.pop("scope") != after.pop("scope")
    assert before == after
    loaded = load_detector(tmp_path)
    assert (loaded.hash(), loaded.spec.scope) == (digest, scope)
    assert read_spec(tmp_path) == (loaded.spec, digest)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == weights
    with pytest.raises(UserError, match="holds another detector by now"):
        write_scope(store, Scope(), "0" * 64)


def test_a_detector_of_before_has_an_empty_scope(tmp_path: Path) -> None:
    save_detector(tiny_detector(), open_store(tmp_path))
    data = json.loads((tmp_path / "detector.json").read_text())
    del data["scope"]
    (tmp_path / "detector.json").write_text(json.dumps(data))
    assert load_detector(tmp_path).spec.scope == Scope()


def test_under_another_view_nothing_was_measured() -> None:
    detector = tiny_detector()
    scope = Scope(trained=TRAINED, measured=(measured(),))
    seen = Detector(detector.network, detector.spec.model_copy(update={"scope": scope}))
    assert seen.seen_as("five").spec.scope == Scope(trained=TRAINED)
    assert seen.seen_as(None).spec.scope == scope


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_detector_has_figures_with_source_and_date(name: str) -> None:
    scope = published_scope(name)
    assert scope.about
    assert scope.trained
    assert scope.measured
    assert all(one.figures and one.source and one.date for one in scope.measured)
    # First in the line stands what is not the detector's own home.
    assert "its home set" not in scope.line()


def test_a_calibration_that_turns_the_scores_round_leaves_no_ranking() -> None:
    scope = Scope(measured=(measured(),)).recalibrated(Images(), turned=True)
    assert scope.measured == ()
    published = published_scope("imaginet").recalibrated(Images(), turned=True)
    assert all(one.name.endswith(", before calibration") for one in published.measured)
