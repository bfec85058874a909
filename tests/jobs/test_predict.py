"""Prediction as a whole, on one shared Ray session and a real S3 server."""

import csv
import json
import runpy
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rayapp import load_detector
from rayapp.cluster import session
from rayapp.config.errors import JobFailed, UserError
from rayapp.dataset import scores
from rayapp.jobs.predict import predict
from rayapp.models.detector import Detector
from rayapp.models.folder import save_detector
from rayapp.models.scope import UNMEASURED
from rayapp.predict.settings import PredictSettings
from rayapp.storage.uris import open_store
from tests.detectors import saved_detector, tiny_detector
from tests.models.test_folder import calibration, with_spec
from tests.pictures import photographed, saved

ROOT = Path(__file__).resolve().parents[2]


def picture(seed: int, height: int = 48, width: int = 60) -> bytes:
    return saved(Image.fromarray(photographed(height, width, seed)), "PNG")


def folder_of(root: Path, count: int) -> Path:
    images = root / "images"
    (images / "déjà vu").mkdir(parents=True)
    for number in range(count):
        place = images / "déjà vu" if number % 2 else images
        (place / f"{number:02d}.png").write_bytes(picture(number, 30 + number, 60))
    return images


def run(tmp_path: Path, name: str = "out", **settings: Any) -> dict[str, dict[str, Any]]:
    """Rows by id."""
    given = {"detector": str(tmp_path / "detector"), "precision": "exact"} | settings
    predict(PredictSettings(output=str(tmp_path / name), **given))
    table = pq.read_table(tmp_path / name / "scores.parquet")
    return {row["id"]: row for row in table.to_pylist()}


@pytest.mark.ray
def test_a_folder_with_odd_files(tmp_path: Path):
    saved_detector(tmp_path / "detector")
    images = folder_of(tmp_path, 9)
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    (images / "note.txt.png").write_bytes(b"text")
    found = run(tmp_path, input=str(images))
    assert len(found) == 11
    failed = {key: row["error"] for key, row in found.items() if row["status"] != "ok"}
    assert set(failed) == {"broken.jpg", "note.txt.png"}
    good = sorted(set(found) - set(failed))
    wanted = load_detector(tmp_path / "detector").logits([str(images / key) for key in good])
    np.testing.assert_allclose([found[key]["logit"] for key in good], wanted, atol=1e-5)
    out = tmp_path / "out"
    lines = list(csv.DictReader((out / "scores.csv").open(encoding="utf-8-sig")))
    assert sorted(line["path"] for line in lines) == sorted(found)
    assert (out / "gallery.html").read_text(encoding="utf-8").count("data:image/jpeg") == 9
    told = json.loads((out / "run.json").read_text())["results"]
    assert told["scope"] == load_detector(tmp_path / "detector").scope_line
    assert UNMEASURED in told["scope"]
    assert UNMEASURED in (out / "gallery.html").read_text(encoding="utf-8")
    assert told["ms_per_image"] > 0
    assert told["images_per_s"] > 0
    assert told["peak_mb"] > 50
    assert not (out / "parts").exists()


def test_where_there_is_nothing_to_judge_the_verdict_is_unsure_and_the_score_stands(tmp_path: Path):
    plain = tiny_detector()
    save_detector(
        with_spec(plain, calibration=calibration(plain)), open_store(tmp_path / "detector")
    )
    images = folder_of(tmp_path, 2)
    (images / "blank.png").write_bytes(saved(Image.new("RGB", (60, 60), "teal"), "PNG"))
    (images / "tiny.png").write_bytes(picture(1, 20, 20))
    found = run(tmp_path, input=str(images))
    reasons = {key: row["reason"] for key, row in found.items() if row["reason"]}
    assert reasons == {
        "blank.png": "nothing but one colour",
        "tiny.png": "too few pixels: 20×20, seen as 32×32, most of it mirrored",
    }
    wanted = load_detector(tmp_path / "detector").logits([str(images / key) for key in found])
    np.testing.assert_allclose([row["logit"] for row in found.values()], wanted, atol=1e-5)
    out = tmp_path / "out"
    lines = list(csv.DictReader((out / "scores.csv").open(encoding="utf-8-sig")))
    said = {line["path"]: (line["verdict"], line["reason"]) for line in lines}
    assert {key: said[key] for key in reasons} == {k: ("unsure", r) for k, r in reasons.items()}
    record = json.loads((out / "run.json").read_text())
    assert {"pillow", "libjpeg-turbo", "libwebp", "libavif", "zlib"} <= record["versions"].keys()
    told = record["results"]
    assert told["nothing_to_judge"] == {"nothing but one colour": 1, "too few pixels": 1}
    page = (out / "gallery.html").read_text(encoding="utf-8")
    assert all(reason in page for reason in reasons.values())


def test_a_score_that_is_no_number_is_a_failed_row_by_name(tmp_path: Path):
    text = "def predict(images):\n    return [{18: float('nan'), 19: float('inf')}.get("
    (tmp_path / "mine.py").write_text(f"{text}len(i) - 80, 0.5) for i in images]\n")
    images = tmp_path / "images"
    images.mkdir()
    for height in (97, 98, 99):
        (images / f"{height}.png").write_bytes(picture(1, height, 100))
    found = run(tmp_path, input=str(images), detector=str(tmp_path / "mine.py"))
    assert {key: (row["status"], row["error"], row["logit"]) for key, row in found.items()} == {
        "97.png": ("ok", "", 0.0),
        "98.png": ("failed", "the detector gave NaN", None),
        "99.png": ("failed", "the detector gave an infinite score", None),
    }


@pytest.mark.ray
@pytest.mark.slow
def test_workers_batches_and_order_change_nothing(tmp_path: Path):
    saved_detector(tmp_path / "detector")
    images = folder_of(tmp_path, 20)
    one = run(tmp_path, "one", input=str(images), num_workers=1, batch_size=1, gallery=0)
    two = run(tmp_path, "two", input=str(images), num_workers=2, batch_size=16, gallery=0)
    rounded = run(tmp_path, "bf16", input=str(images), precision="bf16", gallery=0)
    logits = [np.array([found[key]["logit"] for key in one]) for found in (one, two, rounded)]
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-5)
    np.testing.assert_allclose(logits[0], logits[2], atol=0.01)
    # The same command again does nothing, with other workers too; other settings are refused.
    before = (tmp_path / "one/scores.parquet").stat().st_mtime_ns
    run(tmp_path, "one", input=str(images), num_workers=2, gallery=0)
    assert (tmp_path / "one/scores.parquet").stat().st_mtime_ns == before
    with pytest.raises(UserError, match='setting view was null, now "five"'):
        run(tmp_path, "one", input=str(images), view="five")
    (images / "00.png").write_bytes(picture(99))
    with pytest.raises(UserError, match="its input has changed since"):
        run(tmp_path, "one", input=str(images), gallery=0)


@pytest.mark.ray
@pytest.mark.slow
def test_another_view_is_stored_in_the_detector_that_is_written(tmp_path: Path):
    saved_detector(tmp_path / "detector")
    images = folder_of(tmp_path, 3)
    found = run(tmp_path, input=str(images), view="tiles", gallery=0)
    kept = load_detector(tmp_path / "out/detector")
    assert kept.spec.preprocessing.view == "tiles"
    assert {row["detector_hash"] for row in found.values()} == {kept.hash()}
    wanted = kept.logits([str(images / key) for key in found])
    np.testing.assert_allclose([row["logit"] for row in found.values()], wanted, atol=1e-5)


def test_a_calibration_made_under_another_view_is_refused(tmp_path: Path):
    plain = tiny_detector()
    calibrated = with_spec(plain, calibration=calibration(plain))
    assert calibrated.seen_as("centre", 32) is calibrated
    save_detector(calibrated, open_store(tmp_path / "detector"))
    images = folder_of(tmp_path, 1)
    for changed in ({"view": "five"}, {"view_size": 64}):
        with pytest.raises(UserError, match="calibrated under the view centre at 32 px"):
            run(tmp_path, input=str(images), **changed)
    # One that was changed by hand is refused as well.
    seen = plain.spec.preprocessing.model_copy(update={"view": "five"})
    forged = Detector(plain.network, plain.spec.model_copy(update={"preprocessing": seen}))
    forged = with_spec(forged, calibration=calibration(plain))
    save_detector(forged, open_store(tmp_path / "forged"))
    with pytest.raises(UserError, match="calibration was made for other weights or another view"):
        load_detector(tmp_path / "forged")


@pytest.mark.ray
def test_a_perturbation_gives_a_row_an_image_and_variant(tmp_path: Path):
    saved_detector(tmp_path / "detector")
    images = folder_of(tmp_path, 3)
    (images / "gone.png").symlink_to("nowhere.png")
    found = run(tmp_path, input=str(images), perturbation="jpeg-grid", gallery=4)
    results = json.loads((tmp_path / "out/run.json").read_text())["results"]
    assert [line.partition(":")[0] for line in results["failures"]] == ["gone.png"]
    assert results["unnamed"] == 0
    found = {key: row for key, row in found.items() if row["path"] != "gone.png"}
    variants = {row["variant"] for row in found.values()}
    assert len(found) == 3 * len(variants) > 6
    assert all(key == f"{row['path']}@{row['variant']}" for key, row in found.items())
    logits = [row["logit"] for row in found.values() if row["path"] == "00.png"]
    assert len(set(logits)) > 2
    lines = list(csv.DictReader((tmp_path / "out/scores.csv").open(encoding="utf-8-sig")))
    assert {line["variant"] for line in lines} == variants
    digest = load_detector(tmp_path / "detector").hash()
    assert scores.read_matching([str(tmp_path)], digest).num_rows == 0  # of other images


@pytest.mark.ray
def test_following_a_folder_scores_what_is_new_or_changed(tmp_path: Path):
    saved_detector(tmp_path / "detector")
    store = open_store(tmp_path / "images")
    for number in range(5):
        store.put(f"{number}.png", picture(number))
    settings: dict[str, Any] = {"input": str(tmp_path / "images"), "follow": True, "gallery": 0}
    first = run(tmp_path, **settings)
    store.put("1.png", picture(50))  # changed
    store.put("new.png", picture(51))
    store.delete(["2.png"])
    second = run(tmp_path, **settings)
    found = json.loads((tmp_path / "out/run.json").read_text())
    assert (found["results"]["scored_now"], found["counts"]["in"]) == (2, 5)
    assert set(second) == {"0.png", "1.png", "3.png", "4.png", "new.png"}
    assert second["1.png"]["logit"] != first["1.png"]["logit"]
    assert second["0.png"] == first["0.png"]
    before = (tmp_path / "out/run.json").stat().st_mtime_ns
    run(tmp_path, **settings)
    assert (tmp_path / "out/run.json").stat().st_mtime_ns == before  # nothing new


def test_following_takes_a_listing(tmp_path: Path):
    saved_detector(tmp_path / "detector")
    (tmp_path / "a.txt").write_text("a.png,0,0,4,8\n")
    with pytest.raises(UserError, match="--follow: takes a folder"):
        run(tmp_path, input=str(tmp_path / "a.txt"), root=str(tmp_path), follow=True)


@pytest.mark.ray
@pytest.mark.slow
def test_a_detector_of_ones_own(tmp_path: Path):
    images = folder_of(tmp_path, 4)
    (tmp_path / "own.py").write_text(
        "def predict(images):\n    return [i.shape[0] / 100 for i in images]\n"
    )
    found = run(tmp_path, detector=str(tmp_path / "own.py"), input=str(images))
    p = [1 / (1 + np.exp(-row["logit"])) for row in found.values()]
    assert p == pytest.approx([row["height"] / 100 for row in found.values()])
    assert {row["preprocessing_hash"] for row in found.values()} == {""}


@pytest.mark.ray
@pytest.mark.slow
def test_nothing_readable_is_a_failure(tmp_path: Path):
    saved_detector(tmp_path / "detector")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"text")
    with pytest.raises(JobFailed, match=r"none of 1 inputs .*a\.png: text, not an image"):
        run(tmp_path, input=str(tmp_path / "images"))


@pytest.mark.ray
def test_few_images_score_the_same_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saved_detector(tmp_path / "detector")
    images = folder_of(tmp_path, 7)
    (images / "broken.png").write_bytes(picture(1)[:100])
    on_ray = run(tmp_path, "on ray", input=str(images))
    monkeypatch.setattr(session, "_own", True)  # as if no other test had opened it

    def never() -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(session, "start", never)
    here = run(tmp_path, "here", input=str(images))
    assert here.keys() == on_ray.keys()
    for name, row in here.items():
        assert row["status"] == on_ray[name]["status"]
        assert row["error"] == on_ray[name]["error"]
        assert row["logit"] == pytest.approx(on_ray[name]["logit"], abs=1e-6)
    assert here["broken.png"]["status"] == "failed"


@pytest.mark.ray
def test_a_gallery_that_is_asked_for_later_is_made_of_the_stored_scores(tmp_path: Path):
    saved_detector(tmp_path / "detector")
    images = folder_of(tmp_path, 3)
    before = run(tmp_path, input=str(images), gallery=0)
    facts = json.loads((tmp_path / "out/run.json").read_bytes())["results"]
    assert not (tmp_path / "out/gallery.html").exists()
    assert run(tmp_path, input=str(images)) == before
    assert (tmp_path / "out/gallery.html").stat().st_size
    again = json.loads((tmp_path / "out/run.json").read_bytes())["results"]
    assert again["ms_per_image"] == facts["ms_per_image"] > 0


def test_scores_of_a_listing_carry_the_state_of_each_file(tmp_path: Path):
    assert "etag" in scores.schema().names


@pytest.mark.ray
def test_what_a_moderator_gets_from_a_folder_as_it_lies(tmp_path: Path, capfd: Any):
    saved_detector(tmp_path / "detector")
    images = folder_of(tmp_path, 4)
    for name in (".DS_Store", "Thumbs.db", "._00.png", "__MACOSX/._00.png", "notes.txt", "00.json"):
        (images / name).parent.mkdir(exist_ok=True)
        (images / name).write_bytes(b"\0")
    code = ended(tmp_path, "--input", str(images))
    said = capfd.readouterr().out
    assert code == 0, said
    lines = csv.DictReader((tmp_path / "out/scores.csv").open(encoding="utf-8-sig"))
    verdicts = [(line["verdict"].partition(" ")[0], -float(line["probability"])) for line in lines]
    assert verdicts == sorted(verdicts, key=lambda one: (one[0] != "synthetic", one[1]))
    counted = Counter(verdict for verdict, _ in verdicts)
    assert (
        f"{counted['synthetic']} synthetic, {counted['real']} real, 0 unsure, 0 not scored; "
        in said
    )
    assert "synthetic from p ≥ 0.5 (uncalibrated)" in said
    assert "left out, no images: " in said
    for kind in ("1 .DS_Store", "1 Thumbs.db", "1 ._*", "1 __MACOSX/", "1 .txt", "1 .json"):
        assert kind in said
    (images / "broken.jpg").write_bytes(b"text")
    (images / "more.zip").write_bytes(b"PK\3\4\0")
    assert ended(tmp_path, "--input", str(images), "--overwrite") == 3
    said = capfd.readouterr().out
    assert "2 not scored; " in said
    assert "; unpack it and give the folder" in said
    assert "not scored: broken.jpg: text, not an image" in said
    assert "look first at: " in said or not counted["synthetic"]


def ended(folder: Path, *options: str) -> int:
    """The exit code of the job as a user starts it."""
    before = sys.argv
    sys.argv = ["predict.py", "--detector", str(folder / "detector"), *options]
    sys.argv += ["--output", str(folder / "out")]
    try:
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / "jobs/predict.py"), run_name="__main__")
    finally:
        sys.argv = before
    return int(end.value.code or 0)


def test_options_of_other_jobs_and_published_names_are_pointed_to(tmp_path: Path, capfd: Any):
    assert ended(tmp_path, "--input", str(tmp_path), "--fpr", "0.01") == 2
    said = capfd.readouterr().err
    assert "--fpr: is an option of calibrate: `imaginet calibrate --fpr 0.01" in said
    assert len(said.splitlines()) == 1
    assert ended(tmp_path, "--input", str(tmp_path), "--detector", "commfor") == 2
    said = capfd.readouterr().err
    assert "no such detector; `imaginet weights commfor` fetches the published one" in said
    assert len(said.splitlines()) == 1


@pytest.mark.ray
def test_a_path_named_a_thousand_times_is_scored_once(tmp_path: Path):
    images = folder_of(tmp_path, 2)
    (tmp_path / "own.py").write_text(
        f"log = open({str(tmp_path / 'scored')!r}, 'a')\n"
        "def predict(images):\n"
        "    log.write('1\\n' * len(images))\n"
        "    log.flush()\n"
        "    return [0.25 + i.shape[0] / 100 for i in images]\n"
    )
    (images / "list.txt").write_text("déjà vu/01.png\n" + "00.png\n" * 1000)
    found = run(tmp_path, detector=str(tmp_path / "own.py"), input=str(images / "list.txt"))
    assert len(found) == 1001
    assert len((tmp_path / "scored").read_text().splitlines()) == 2
    assert {(row["path"], row["height"]) for row in found.values()} == {
        ("00.png", 30),
        ("déjà vu/01.png", 31),
    }
    assert len({row["logit"] for row in found.values()}) == 2
    told = json.loads((tmp_path / "out/run.json").read_text())
    assert told["counts"] == {"in": 1001, "scored": 1001, "failed": 0}
    assert told["results"]["scored_now"] == 2
    assert (tmp_path / "out/gallery.html").read_text(encoding="utf-8").count("data:image/jpeg") == 2


@pytest.mark.ray
def test_images_in_a_tar_and_in_a_parquet_score_as_files_do(tmp_path: Path):
    saved_detector(tmp_path / "detector")
    images = folder_of(tmp_path, 4)
    files = {path.name: path for path in images.rglob("*.png")}
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards/0.tar", "w") as tar:
        for name in ("00.png", "01.png"):
            tar.add(files[name], name)
        broken = tarfile.TarInfo("broken.png")
        tar.addfile(broken)
    rows = [{"bytes": files[name].read_bytes(), "path": name} for name in ("02.png", "03.png")]
    pq.write_table(pa.table({"image": rows}), tmp_path / "shards/1.parquet", row_group_size=1)
    apart = {
        row["path"].rpartition("/")[2]: row["logit"]
        for row in run(tmp_path, "files", input=str(images)).values()
    }
    found = run(tmp_path, input=str(tmp_path / "shards"))
    assert found.pop("0.tar/broken.png")["error"] == "empty file (0 bytes)"
    assert {name: row["logit"] for name, row in found.items()} == pytest.approx(
        {
            "0.tar/00.png": apart["00.png"],
            "0.tar/01.png": apart["01.png"],
            "1.parquet/0_02.png": apart["02.png"],
            "1.parquet/1_03.png": apart["03.png"],
        },
        abs=1e-6,
    )
    assert (tmp_path / "out/gallery.html").read_text(encoding="utf-8").count("data:image/jpeg") == 4
