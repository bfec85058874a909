import csv
import json
from pathlib import Path

import numpy as np
import pytest

from rayapp.calibrate import CalibrateSettings, calibrate
from rayapp.errors import UserError
from rayapp.evaluate.pipeline import EvaluateSettings, evaluate
from rayapp.labels import load_scheme
from rayapp.metrics.evaluation import EVALUATION_FILE, Evaluation
from rayapp.report import REPORT_FILE, ReportSettings, report
from tests.detectors import listed, saved_detector, saved_scores, tiny_detector

SCHEME = load_scheme("demo")


@pytest.fixture
def given(tmp_path: Path) -> dict:
    origins = [0, 1] * 100
    items = listed(tmp_path / "test.txt", origins, SCHEME)
    logits = np.random.default_rng(1).normal(2 * np.array(origins), 1.0)
    groups = [f"photo {n % 10}" for n in range(200)]
    return {
        "detector": saved_detector(tmp_path / "detector"),
        "scores": saved_scores(tmp_path / "scores", tiny_detector(), items, logits, SCHEME, groups),
        "annotations": str(tmp_path / "test.txt"),
        "scheme": "demo",
        "resamples": 100,
        "output": str(tmp_path / "out"),
    }


@pytest.mark.ray
def test_figures_by_slice_are_stored_as_json_and_csv(given: dict):
    run = evaluate(EvaluateSettings(**given, held_out=("pixel shuffle",)))
    found = Evaluation.model_validate_json(run.store.get(EVALUATION_FILE))
    assert (found.resampled, found.num_groups) == ("photographs", 10)
    seen, held_out = found.slice("training", "seen"), found.slice("training", "held-out")
    assert seen is not None
    assert held_out is not None
    assert seen.num_synthetic + held_out.num_synthetic == 100
    lines = list(csv.DictReader(Path(given["output"], "metrics.csv").read_text().splitlines()))
    assert len(lines) == len(found.slices)
    assert float(lines[0]["roc_auc"]) == pytest.approx(
        found.whole.figures["roc_auc"].value, abs=1e-6
    )


@pytest.mark.ray
def test_an_unknown_held_out_generator_is_named(given: dict):
    with pytest.raises(UserError, match="'Midjourney' is no generator"):
        evaluate(EvaluateSettings(**given, held_out=("Midjourney",)))


@pytest.mark.ray
def test_the_report_of_an_evaluation_stands_alone(given: dict, tmp_path: Path):
    import io

    from PIL import Image

    for number in range(200):
        sink = io.BytesIO()
        Image.new("RGB", (8, 8), (number, 0, 0)).save(sink, "PNG")
        file = Path(given["scores"], f"i/{number:04d}.png")
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(sink.getvalue())
    evaluate(EvaluateSettings(**given))
    run = report(
        ReportSettings(
            evaluations=(given["output"],), runs=(given["output"],), output=str(tmp_path / "page")
        )
    )
    page = run.store.get(REPORT_FILE).decode()
    assert "ROC AUC" in page
    assert "data:image/jpeg;base64" in page  # the worst mistakes
    for outside in ('src="http', 'href="http', "url(http", "@import"):
        assert outside not in page


@pytest.mark.ray
def test_a_report_after_a_new_calibration_is_refused(given: dict, tmp_path: Path):
    evaluate(EvaluateSettings(**given))
    fields = ("detector", "scores", "annotations", "scheme")
    settings = CalibrateSettings(**{f: given[f] for f in fields}, output=str(tmp_path / "new"))
    calibrate(settings)
    path = Path(given["output"], EVALUATION_FILE)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"detector": str(tmp_path / "new")}))
    with pytest.raises(UserError, match="calibrated anew"):
        report(ReportSettings(evaluations=(given["output"],), output=str(tmp_path / "page")))
