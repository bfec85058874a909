"""A detector of others through all jobs that take one: predict, calibrate, evaluate, describe."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rayapp import load_detector
from rayapp.calibrate.settings import CalibrateJobSettings
from rayapp.config.command_line import parse_settings
from rayapp.config.errors import UserError
from rayapp.describe.settings import DescribeSettings
from rayapp.evaluate.settings import EvaluateJobSettings
from rayapp.jobs.calibrate import calibrate_from_images
from rayapp.jobs.describe import card
from rayapp.jobs.evaluate import measure
from rayapp.jobs.predict import predict
from rayapp.metrics.evaluation import EVALUATION_FILE, Results
from rayapp.predict.settings import PredictSettings
from tests.hub_folders import pipeline_probability, save_folder

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two lists of noise and of what is smooth, and a Hugging Face folder of unclear labels."""
    root = tmp_path_factory.mktemp("adopted")
    rng = np.random.default_rng(0)
    for part in ("fit", "test"):
        (root / part).mkdir()
        lines = []
        for number in range(24):
            origin = number % 2
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            if origin:
                pixels = pixels[:5, :5].repeat(8, 0).repeat(10, 1)
            Image.fromarray(pixels).save(root / part / f"{number:02}.png")
            lines.append(
                f"{part}/{number:02}.png,{origin},0,{1 if origin else 4},{1 if origin else 4}"
            )
        (root / f"{part}.txt").write_text("\n".join(lines) + "\n")
    save_folder(root / "model", "vit", ("LABEL_0", "LABEL_1"))
    return root


def settings(kind: Any, **given: Any) -> Any:
    """As the command line makes them."""
    options: list[str] = []
    for name, value in given.items():
        values = [value] if isinstance(value, str) else list(value)
        options += [f"--{name.replace('_', '-')}", *values]
    return parse_settings(kind, options, "test")


def test_from_scores_to_a_calibrated_folder_and_its_measure(data: Path, tmp_path: Path) -> None:
    before = sorted((path.name, path.read_bytes()) for path in (data / "model").iterdir())
    model, labels = str(data / "model"), ["LABEL_0"]
    common = {"root": str(data), "scheme": "demo"}
    with pytest.raises(UserError, match="--synthetic-labels"):
        predict(settings(PredictSettings, detector=model, input=str(data / "test"), output="x"))
    given = {"detector": model, "synthetic_labels": labels, "precision": "exact"}
    run = predict(
        settings(PredictSettings, **given, input=str(data / "test"), output=str(tmp_path / "p"))
    )
    assert run.counts["scored"] == 24
    rows = pq.read_table(tmp_path / "p/scores.parquet").sort_by("id")
    images = [Image.open(data / "test" / name) for name in rows["id"].to_pylist()]
    expected = pipeline_probability(data / "model", images, ("LABEL_0",))
    found = 1 / (1 + np.exp(-rows["logit"].to_numpy().astype(float)))
    assert np.abs(found - expected).max() <= 1e-5

    del given["precision"]
    fitted = str(tmp_path / "fitted")
    calibrate_from_images(
        settings(
            CalibrateJobSettings,
            **given,
            **common,
            annotations=str(data / "fit.txt"),
            guard="path",
            output=fitted,
        )
    )
    calibrated = load_detector(fitted)
    own = load_detector(model, synthetic_labels=labels)
    assert calibrated.hash() == own.hash()
    assert calibrated.spec.calibration
    assert calibrated.spec.calibration.n == 24

    run = measure(
        settings(
            EvaluateJobSettings,
            detector=[model, fitted],
            synthetic_labels=labels,
            **common,
            annotations=str(data / "test.txt"),
            output=str(tmp_path / "e"),
            embedding="0",
            resamples="100",
        )
    )
    results = Results.model_validate_json(run.store.get(EVALUATION_FILE))
    assert len(results.evaluations) == 2
    assert "test" in str(load_detector(fitted).spec.scope.measured)  # ours says what was measured
    assert before == sorted((path.name, path.read_bytes()) for path in (data / "model").iterdir())


def test_its_card_says_what_it_is_and_which_classes_add_up(data: Path) -> None:
    asked = settings(DescribeSettings, detector=str(data / "model"), synthetic_labels=["LABEL_0"])
    shown = card(asked.detector)
    assert "its own processor does, 32×32 px" in shown
    assert "LABEL_0 (LABEL_0, LABEL_1)" in shown
    assert load_detector(asked.detector).hash() in shown


def test_views_of_its_own_size_only(data: Path, tmp_path: Path) -> None:
    given = {"detector": str(data / "model"), "synthetic_labels": ["LABEL_1"]}
    with pytest.raises(UserError, match="takes 32 px, not 64"):
        predict(
            settings(PredictSettings, **given, input=str(data / "test"), output="x", view_size="64")
        )
    tiled = load_detector(given["detector"], synthetic_labels=["LABEL_1"]).seen_as("tiles", 32)
    assert tiled.preprocess(np.zeros((64, 64, 3), np.uint8)).shape == (4, 3, 32, 32)
