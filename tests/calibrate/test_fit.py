import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from rayapp import load_detector
from rayapp.calibrate.fit import calibrate
from rayapp.calibrate.settings import CalibrateJobSettings, CalibrateSettings
from rayapp.config.errors import UserError
from rayapp.dataset.images import decode, perceptual_hash
from rayapp.dataset.labels import Item, load_scheme, read_list, write_list
from rayapp.dataset.leakage import ITEMS_FILE
from rayapp.dataset.manifest import read_table, write_table
from rayapp.jobs.calibrate import calibrate_from_images
from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.detector import Detector
from rayapp.models.folder import save_detector
from rayapp.models.scope import Measured, Quantity, Scope
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
    seen = found.observed  # how it decides on these images, for who reads its scores
    assert seen is not None
    assert (seen.num_real, seen.num_synthetic) == (150, 150)
    assert 0 < seen.false_synthetic < 20
    assert 0 < seen.false_real < 20
    assert calibrate(CalibrateSettings(**given)).state == "done"


def calibration(uri: str) -> Calibration:
    found = load_detector(uri).spec.calibration
    assert found is not None
    return found


def test_a_rate_of_false_positives_sets_the_threshold(given: dict):
    run = calibrate(CalibrateSettings(**given, fpr=0.02))
    found = calibration(given["output"])
    assert found.threshold > 0.5
    point = found.operating_point
    assert point is not None
    assert (point.fpr, point.confidence, point.by, point.unit) == (0.02, 0.95, "", "images")
    (rate,) = point.rates
    assert (rate.num_real, rate.num_flagged) == (150, 0)  # 149 are the fewest
    assert rate.bound == pytest.approx(1 - 0.05 ** (1 / 150))
    assert 0 < point.recall < 1
    told = run.results["decisions"]
    assert told[0] == "false positives: asked at most 2 %, with 95 % confidence"
    assert "bound 1.98 %, observed 0 % (0 of 150 real images)" in told[1]
    assert "hold where 50 % of the images are synthetic, as in the calibration set" in told[3]


def test_a_rate_that_so_few_reals_cannot_promise_is_refused(given: dict):
    for more, message in (
        ({"fpr": 0.01}, "needs at least 299 .* got 150: 149 are missing"),
        ({"fpr": 0.02, "confidence": 0.99}, "needs at least 228 "),
    ):
        with pytest.raises(UserError, match=message):
            calibrate(CalibrateSettings(**given, **more))
        assert not Path(given["output"]).exists()


def test_the_rate_holds_in_every_slice_of_a_column(given: dict, tmp_path: Path):
    uri = given["annotations"]
    grey = [
        Item(o.id, o.path, (o.labels[0], 1, *o.labels[2:])) for o in read_list(uri, SCHEME).items
    ]
    colour = read_list(uri, SCHEME).items[:160]  # 80 reals; 70 are left
    write_list(open_store(tmp_path), Path(uri).name, [*colour, *grey[160:]], SCHEME)
    calibrate(CalibrateSettings(**given, fpr=0.05, fpr_by="content"))
    point = calibration(given["output"]).operating_point
    assert point is not None
    assert [(r.slice, r.num_real) for r in point.rates] == [("colour", 80), ("grey", 70)]
    assert all(rate.bound is not None and rate.bound <= 0.05 for rate in point.rates)
    again = given | {"output": str(tmp_path / "again")}
    with pytest.raises(UserError, match=r"of each content; missing: grey 4 \(has 70\)"):
        calibrate(CalibrateSettings(**again, fpr=0.04, fpr_by="content"))
    with pytest.raises(UserError, match="no column camera of the images"):
        calibrate(CalibrateSettings(**again, fpr=0.04, fpr_by="camera"))


def test_a_column_of_the_manifest_under_the_root_cuts_too(given: dict, tmp_path: Path):
    paths = [f"i/{k:04d}.png" for k in range(300)]
    cameras = ["phone" if k < 160 else None for k in range(300)]
    columns = {"path": paths[:250], "camera": cameras[:250]}
    write_table(open_store(tmp_path / "scores"), "manifest.parquet", pa.table(columns))
    more = {"root": str(tmp_path / "scores"), "fpr": 0.05, "fpr_by": "camera"}
    calibrate(CalibrateSettings(**given, **more))
    point = calibration(given["output"]).operating_point
    assert point is not None
    assert [(r.slice, r.num_real) for r in point.rates] == [("phone", 80), ("unknown", 70)]


def test_images_of_one_photograph_count_once(given: dict, tmp_path: Path):
    items = read_list(given["annotations"], SCHEME).items
    groups = [f"photo {at // 4}" for at in range(300)]
    logits = np.random.default_rng(0).normal(3 * np.array([0, 1] * 150), 1.0)
    folder = tmp_path / "grouped"
    given["scores"] = saved_scores(folder, tiny_detector(), items, logits, SCHEME, groups)
    with pytest.raises(UserError, match=r"at least 149 .* got 75: 74 are missing"):
        calibrate(CalibrateSettings(**given, fpr=0.02))
    calibrate(CalibrateSettings(**given, fpr=0.05))
    point = calibration(given["output"]).operating_point
    assert point is not None
    assert (point.unit, point.rates[0].num_real) == ("photographs", 75)


def test_a_prevalence_shifts_the_probabilities_and_not_the_order(given: dict, tmp_path: Path):
    calibrate(CalibrateSettings(**given, fpr=0.02))
    there = given | {"output": str(tmp_path / "there")}
    run = calibrate(CalibrateSettings(**there, fpr=0.02, prevalence=0.01))
    plain, shifted = calibration(given["output"]), calibration(there["output"])
    z = np.linspace(0, 14, 29)
    p, q = plain.apply(z), shifted.apply(z)
    odds = (0.01 / 0.99) * p / (1 - p)  # half of the calibration images are synthetic
    np.testing.assert_allclose(q, odds / (1 + odds))
    np.testing.assert_array_equal(p >= plain.threshold, q >= shifted.threshold)
    assert plain.operating_point == shifted.operating_point
    assert (
        "hold where 1 % of the images are synthetic, as was asked; there"
        in (run.results["decisions"][-1])
    )
    assert plain.hash != shifted.hash
    for more, message in (
        ({"method": "temperature", "temperature": 2.0, "prevalence": 0.1}, "is not fitted"),
        ({"fpr_by": "content"}, "fpr_by goes with fpr"),
    ):
        with pytest.raises(ValueError, match=message):
            CalibrateSettings(**there, **more)


def test_no_rate_is_promised_of_scores_that_run_against_the_labels(given: dict, tmp_path: Path):
    items = read_list(given["annotations"], SCHEME).items
    logits = np.random.default_rng(0).normal(-3 * np.array([0, 1] * 150), 1.0)
    folder = tmp_path / "turned"
    given["scores"] = saved_scores(folder, tiny_detector(), items, logits, SCHEME)
    with pytest.raises(UserError, match=r"fpr 0.02 cannot be promised: .* run against the labels"):
        calibrate(CalibrateSettings(**given, fpr=0.02))
    assert "run against the labels" in calibrate(CalibrateSettings(**given)).results["warning"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fpr": 0.001}, r"calibration\.txt: .* rate of 0\.1 % .* needs at least .* got 150"),
        (
            {"annotations": "reals.txt"},
            r"reals\.txt: calibration needs both classes: 150 real, 0 s",
        ),
    ],
)
def test_what_the_labels_forbid_is_said_before_an_image_is_read(
    given: dict, tmp_path: Path, change: dict, said: str
):
    lines = Path(given["annotations"]).read_text().splitlines()
    (tmp_path / "reals.txt").write_text("\n".join(lines[::2]))
    given |= {k: str(tmp_path / v) if k == "annotations" else v for k, v in change.items()}
    with pytest.raises(UserError, match=said):
        calibrate(CalibrateSettings(**given))
    given["scores"] = ()
    # No image is there: whatever looked for one would say so.
    with pytest.raises(UserError, match=said):
        calibrate_from_images(CalibrateJobSettings(**given, root=str(tmp_path / "none")))
    assert {path.name for path in tmp_path.iterdir()} == {
        "calibration.txt",
        "detector",
        "reals.txt",
        "scores",
    }


def test_scores_that_cannot_be_fitted_leave_nothing_behind(given: dict, tmp_path: Path):
    items = read_list(given["annotations"], SCHEME).items
    given["scores"] = saved_scores(tmp_path / "flat", tiny_detector(), items, np.ones(300), SCHEME)
    with pytest.raises(UserError, match="all"):
        calibrate(CalibrateSettings(**given))
    assert not Path(given["output"]).exists()


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


def test_a_few_scores_that_run_the_other_way_by_chance_keep_their_direction(
    given: dict, tmp_path: Path
) -> None:
    items = listed(tmp_path / "few.txt", [0, 1] * 4, SCHEME)
    given["annotations"] = str(tmp_path / "few.txt")
    for name, logits in (("chance", [3, 2, 1, 2, 2, 1, 3, 2]), ("sure", [9, 1, 8, 0, 7, 1, 9, 2])):
        folder, values = tmp_path / name, np.array(logits, float)
        given["scores"] = saved_scores(folder, tiny_detector(), items, values, SCHEME)
        given["output"] = str(tmp_path / f"{name}-out")
        if name == "chance":
            run = calibrate(CalibrateSettings(**given))
            said = run.results["warning"]
            assert re.search(r"slope -.*8 images can't tell from chance: they keep", said)
            found = calibration(given["output"])
            assert (found.method, found.turned) == ("bias", "")
            assert (np.diff(found.apply([0.0, 1.0, 2.0])) > 0).all()
        else:
            assert calibration_of(given).turned


def calibration_of(given: dict) -> Calibration:
    calibrate(CalibrateSettings(**given))
    return calibration(given["output"])


def test_what_was_measured_of_scores_goes_when_they_are_turned_round(
    given: dict, tmp_path: Path
) -> None:
    plain = tiny_detector()
    figures = {"roc_auc": Quantity(value=0.1)}
    scope = Scope(measured=(Measured(name="own", num_real=1, num_synthetic=1, figures=figures),))
    spec = plain.spec.model_copy(update={"scope": scope})
    save_detector(Detector(plain.network, spec), open_store(tmp_path / "known"))
    items = read_list(given["annotations"], SCHEME).items
    for sign, kept in ((1, 1), (-1, 0)):
        logits = np.random.default_rng(0).normal(sign * 3 * np.array([0, 1] * 150), 1.0)
        folder = tmp_path / f"s{sign}"
        saved_scores(folder, plain, items, logits, SCHEME)
        changed = {
            "detector": str(tmp_path / "known"),
            "scores": str(folder),
            "output": str(tmp_path / f"o{sign}"),
        }
        calibrate(CalibrateSettings(**given | changed))
        assert len(load_detector(changed["output"]).spec.scope.measured) == kept


def test_looks_are_compared_before_an_image_is_scored(given: dict, tmp_path: Path) -> None:
    """A list of the same pictures, stored anew: other bytes under other names."""
    rng = np.random.default_rng(0)
    for folder in ("mine", "theirs"):
        (tmp_path / folder / "i").mkdir(parents=True)
    items = listed(tmp_path / "few.txt", [0, 1] * 6, SCHEME)
    others = []
    for number, item in enumerate(items):
        small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC)
        picture.save(tmp_path / "mine" / item.path)
        name = f"i/other{number}.png"
        picture.resize((64, 64)).save(tmp_path / "theirs" / name)
        others.append(Item(name, name, item.labels))
    write_list(open_store(tmp_path), "test.txt", others, SCHEME)
    listed_of = {f"i/other{n}.png": None for n in range(12)}
    known = pa.table({"path": list(listed_of)})
    hashes = [perceptual_hash(decode((tmp_path / "theirs" / n).read_bytes()).pixels_HWC)
              for n in listed_of]  # fmt: skip
    write_table(open_store(tmp_path), "known.parquet", known.append_column(
        "perceptual_hash", pa.array(hashes)))  # fmt: skip
    write_list(open_store(tmp_path), "away.txt", others, SCHEME)
    job = {k: v for k, v in given.items() if k != "scores"} | {
        "annotations": str(tmp_path / "few.txt"),
        "root": str(tmp_path / "mine"),
        "against": (str(tmp_path / "known.parquet"), str(tmp_path / "away.txt")),
    }
    with pytest.raises(UserError, match=r"of 12 calibration images are in .*by look"):
        calibrate_from_images(CalibrateJobSettings(**job))
    assert list(tmp_path.rglob("out-scores/**/scores.parquet")) == []
