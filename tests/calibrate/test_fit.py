from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayapp import load_detector
from rayapp.calibrate.fit import calibrate
from rayapp.calibrate.settings import CalibrateSettings
from rayapp.config.errors import UserError
from rayapp.dataset.labels import load_scheme
from rayapp.dataset.leakage import ITEMS_FILE
from rayapp.dataset.manifest import read_table, write_table
from rayapp.storage.uris import open_store
from tests.detectors import listed, saved_detector, saved_scores, tiny_detector

SCHEME = load_scheme("demo")


@pytest.fixture
def given(tmp_path: Path) -> dict:
    origins = [0, 1] * 150
    items = listed(tmp_path / "calibration.txt", origins, SCHEME)
    truth = np.array(origins)
    logits = np.random.default_rng(0).normal(3 * truth, 1.0) * 2 + 5
    return {
        "detector": saved_detector(tmp_path / "detector"),
        "scores": saved_scores(tmp_path / "scores", tiny_detector(), items, logits, SCHEME),
        "annotations": str(tmp_path / "calibration.txt"),
        "scheme": "demo",
        "output": str(tmp_path / "out"),
    }


def test_a_calibrated_detector_is_written(given: dict):
    run = calibrate(CalibrateSettings(**given))
    detector = load_detector(given["output"])
    found = detector.spec.calibration
    assert found is not None
    assert (found.method, found.n, run.counts["real"]) == ("platt", 300, 150)
    # Two unit Gaussians three apart, scaled by 2 and shifted: slope 3/2, midpoint 5 + 3.
    assert found.parameters["slope"] == pytest.approx(1.5, rel=0.25)
    assert found.apply([8.0])[0] == pytest.approx(0.5, abs=0.12)
    assert detector.hash() == load_detector(given["detector"]).hash()
    assert calibrate(CalibrateSettings(**given)).state == "done"


def test_a_rate_of_false_positives_sets_the_threshold(given: dict):
    calibrate(CalibrateSettings(**given, fpr=0.02))
    found = load_detector(given["output"]).spec.calibration
    assert found is not None
    assert found.threshold > 0.5


def test_scores_of_another_detector_are_refused(given: dict, tmp_path: Path):
    given["detector"] = saved_detector(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="300 of 300 images have no score"):
        calibrate(CalibrateSettings(**given))


def test_the_images_of_the_calibration_are_stored_beside_it(given: dict):
    run = calibrate(CalibrateSettings(**given))
    found = read_table(run.store, ITEMS_FILE)
    assert found["path"].to_pylist() == [f"i/{k:04d}.png" for k in range(300)]


def test_test_images_are_refused_and_under_legacy_counted(given: dict, tmp_path: Path):
    lines = Path(given["annotations"]).read_text().splitlines()
    test = tmp_path / "test.txt"
    test.write_text("\n".join([*lines[:7], "other.png,0,0,4,4"]))
    given["against"] = (str(test),)
    with pytest.raises(UserError, match=r"7 of 300 calibration images are in .*test\.txt \(7 by p"):
        calibrate(CalibrateSettings(**given))
    assert not Path(given["output"]).exists()
    run = calibrate(CalibrateSettings(**given, protocol="legacy"))
    assert run.results["leaked"] == {str(test): 7}
    disjoint = tmp_path / "disjoint.txt"
    disjoint.write_text("other.png,0,0,4,4\n")
    given |= {"against": (str(disjoint),), "output": str(tmp_path / "clean")}
    assert calibrate(CalibrateSettings(**given)).counts["in"] == 300


def test_a_manifest_tells_the_same_bytes_under_another_name(given: dict, tmp_path: Path):
    columns = ("path", "sha256", "perceptual_hash")
    own = pa.table([["i/0003.png"], ["abc"], [None]], columns)
    test = pa.table([["elsewhere.png"], ["abc"], [None]], columns)
    for name, table in (("own", own), ("test", test)):
        write_table(open_store(tmp_path), f"{name}.parquet", table)
        given["identities" if name == "own" else "against"] = str(tmp_path / f"{name}.parquet")
    with pytest.raises(UserError, match=r"1 by sha256\); first: i/0003\.png \(elsewhere\.png\)"):
        calibrate(CalibrateSettings(**given))


def test_an_image_without_a_score_is_named(given: dict):
    with open(given["annotations"], "a") as file:
        file.write("i/none.png,0,0,4,4\n")
    with pytest.raises(UserError, match=r"1 of 301 images have no score; first: i/none\.png"):
        calibrate(CalibrateSettings(**given))


def test_other_settings_need_another_output_or_overwrite(given: dict):
    calibrate(CalibrateSettings(**given))
    with pytest.raises(UserError, match='method was "platt", now "bias"'):
        calibrate(CalibrateSettings(**given, method="bias"))
    calibrate(CalibrateSettings(**given, method="bias", overwrite=True))
    found = load_detector(given["output"]).spec.calibration
    assert found is not None
    assert found.method == "bias"
