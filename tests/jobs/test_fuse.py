"""The job: from scores, or from images, to one calibrated detector that predict takes."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy import special

from rayapp.config.errors import UserError
from rayapp.config.yaml_files import validated
from rayapp.dataset.labels import Item, load_scheme, write_list
from rayapp.evaluate.detectors import load_all
from rayapp.fuse.fusion_summary import lines
from rayapp.fuse.settings import FuseSettings
from rayapp.jobs.describe import card
from rayapp.jobs.fuse import fuse
from rayapp.jobs.predict import predict
from rayapp.models.detector import Detector
from rayapp.models.folder import load_detector, save_detector
from rayapp.predict.settings import PredictSettings
from rayapp.storage.uris import open_store
from tests.detectors import listed, saved_detector, saved_scores, tiny_detector

NUM = 120
Made = Callable[..., FuseSettings]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Settings for three detectors with scores of a list: two that tell it apart, one that not."""
    scheme = load_scheme("demo")
    origins = [n % 2 for n in range(NUM)]
    items = listed(tmp_path / "list.txt", origins, scheme)
    rng = np.random.default_rng(0)
    uris = []
    for number, gap in enumerate((1.2, 0.8, 0.0)):
        uri = saved_detector(tmp_path / f"d{number}", seed=number)
        logits = (2 * np.array(origins) - 1) * gap + rng.normal(size=NUM)
        saved_scores(tmp_path / f"scores/{number}", load_detector(uri), items, logits, scheme)
        uris.append(uri)

    def settings(**changes: Any) -> FuseSettings:
        wanted = {
            "detectors": uris,
            "annotations": str(tmp_path / "list.txt"),
            "scores": [str(tmp_path / "scores")],
            "scheme": "demo",
            "output": str(tmp_path / "out"),
        }
        return validated(FuseSettings, {**wanted, **changes}, str)

    return settings


@pytest.mark.parametrize("method", ["mean", "weighted", "stacking"])
def test_scores_become_one_calibrated_detector(made: Made, tmp_path: Path, method: str) -> None:
    run = fuse(made(fusion=method))
    found = load_detector(tmp_path / "out/detector")
    assert found.spec.fusion is not None
    assert [part.name for part in found.spec.fusion.parts] == ["d0", "d1", "d2"]
    assert found.spec.calibration is not None
    assert found.spec.calibration.n == NUM
    # Calibrated on the fused logits of the stored scores, which the parts' logits make.
    stored = pq.read_table(tmp_path / "out/scores/scores.parquet")
    logits_NP = np.column_stack(
        [pq.read_table(tmp_path / f"scores/{n}/scores.parquet")["logit"] for n in range(3)]
    )
    expected = found.spec.fusion.fused(logits_NP)
    np.testing.assert_allclose(stored["logit"], expected, atol=1e-5)
    assert set(stored["detector_hash"].to_pylist()) == {found.hash()}
    origins = np.arange(NUM) % 2
    p = found.spec.calibration.apply(expected)
    assert abs(p.mean() - origins.mean()) < 0.02
    figures = run.results["figures"]
    assert figures["auc"] > figures["parts"][1]["auc"] > 0.6
    assert figures["folds"] == 5
    said = "\n".join(lines(run.results, ["a", "b"]))
    assert "images are unsure because detectors disagree" in said
    assert "not fitted on, 5 folds" in said
    assert "fusion less this one" in said


def test_the_same_again_does_nothing_and_other_settings_are_refused(made: Made) -> None:
    fuse(made())
    assert fuse(made()).state == "done"
    with pytest.raises(UserError, match="fusion"):
        fuse(made(fusion="mean"))


def test_a_promised_rate_holds_of_the_whole(made: Made) -> None:
    run = fuse(made(fpr=0.2, confidence=0.9))
    assert any("false" in line for line in run.results["decisions"])
    with pytest.raises(UserError, match="real"):
        fuse(made(fpr=0.0001, output=f"{made().output}2"))


def test_a_fusion_is_measured_beside_its_parts_but_has_no_features_to_show(
    made: Made, tmp_path: Path
) -> None:
    fuse(made())
    alone, whole = load_all([str(tmp_path / "d0"), str(tmp_path / "out/detector")], [])
    assert (alone.has_features, whole.has_features) == (True, False)
    assert (whole.task, whole.view) == ("origin", "as its parts do")
    assert whole.calibrated_on is not None
    assert whole.calibrated_on.num_rows == NUM


def test_the_card_names_the_parts(made: Made, tmp_path: Path) -> None:
    fuse(made())
    said = card(str(tmp_path / "out/detector"))
    for text in ("a fusion (stacking) of", "d0: highpass-small, weight", "more than 0.8 apart"):
        assert text in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detectors": ["x"]}, "at least 2"),
        ({"scores": []}, "give --root"),
        ({"names": ["a"]}, "1 for 3 detectors"),
        ({"disagree_above": 0}, "disagree_above"),
    ],
)
def test_wrong_settings_are_named(made: Made, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(**changes)


def test_what_cannot_be_fused_is_named(made: Made, tmp_path: Path) -> None:
    uris = made().detectors
    with pytest.raises(UserError, match="stands twice"):
        fuse(made(detectors=[uris[0], uris[1], uris[0]], names=["a", "b", "c"]))
    fuse(made())
    with pytest.raises(UserError, match="is a fusion itself"):
        fuse(made(detectors=[uris[0], str(tmp_path / "out/detector")], output=f"{tmp_path}/two"))


def _images(folder: Path, num: int = 24) -> list[int]:
    (folder / "i").mkdir(parents=True)
    rng = np.random.default_rng(3)
    for n in range(num):
        pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        pixels = pixels.repeat(2, 0).repeat(2, 1) if n % 2 else pixels.repeat(2, 1)[:, :40]
        pixels[: len(pixels) // 2] //= 4  # a horizon: noise alone is nothing to judge
        Image.fromarray(pixels).save(folder / f"i/{n:04d}.png")
    return [n % 2 for n in range(num)]


def test_from_images_to_predict_which_scores_as_the_detector_does(
    made: Made, tmp_path: Path
) -> None:
    root = tmp_path / "images"
    listed(tmp_path / "few.txt", _images(root), load_scheme("demo"))
    fuse(
        made(
            annotations=str(tmp_path / "few.txt"), root=str(root), scores=[], fusion="mean",
            disagree_above=0.1,
        )
    )  # fmt: skip
    uri = str(tmp_path / "out/detector")
    run = predict(
        PredictSettings(detector=uri, input=str(root), output=str(tmp_path / "p"), gallery=4)
    )
    assert run.counts["scored"] == 24
    scored = pq.read_table(tmp_path / "p/scores.parquet").sort_by("path")
    detector = load_detector(uri)
    files = sorted((root / "i").iterdir())
    np.testing.assert_allclose(scored["logit"], detector.logits(files), atol=1e-5)
    assert set(scored["detector_hash"].to_pylist()) == {detector.hash()}
    assert detector.spec.fusion is not None
    parts_NP = np.column_stack([part.logits(files) for part in detector.parts])
    p_NP = special.expit(detector.spec.fusion.log_odds(parts_NP))
    apart = p_NP.max(1) - p_NP.min(1) > 0.1
    assert 0 < apart.sum() < 24, p_NP
    assert scored["reason"].to_pylist() == ["detectors disagree" if one else "" for one in apart]
    lines_ = csv.DictReader((tmp_path / "p/scores.csv").open(encoding="utf-8-sig"))
    told = {row["path"]: (row["verdict"], row["reason"]) for row in lines_}
    judged = detector.judge(files)
    for path, one, unsure in zip(scored["path"].to_pylist(), judged, apart, strict=True):
        assert told[path] == (one.verdict, one.reason)
        if unsure:
            assert told[path] == ("unsure", "detectors disagree")


def test_images_of_training_are_known_by_bytes_and_counted_over_all_lists(
    made: Made, tmp_path: Path
) -> None:
    scheme, root = load_scheme("demo"), tmp_path / "images"
    items = listed(tmp_path / "all.txt", _images(root), scheme)
    write_list(open_store(tmp_path), "train.txt", items[:6], scheme)
    write_list(open_store(tmp_path), "head.txt", items[6:10], scheme)
    trained = tiny_detector(7)
    settings = {
        "annotations": [str(tmp_path / "train.txt")],
        "head_annotations": [str(tmp_path / "head.txt")],
        "root": str(root),
        "scheme": "demo",
    }
    spec = trained.spec.model_copy(update={"provenance": {"settings": settings}})
    save_detector(Detector(trained.network, spec), open_store(tmp_path / "trained"))
    detectors = [str(tmp_path / "trained"), made().detectors[0]]
    common = {"detectors": detectors, "scores": [], "names": ["a", "b"]}

    said = (
        r"10 of 24 calibration images are in train\.txt, on which a was trained \(6 by path\) and "
    )
    with pytest.raises(UserError, match=said + r"head\.txt, on which a was trained \(4 by path\)"):
        fuse(made(annotations=str(tmp_path / "all.txt"), root=str(root), **common))
    assert not (tmp_path / "out-scores").exists()

    (tmp_path / "moved").mkdir()
    moved = []
    for number, item in enumerate(items):
        name = f"{number:02d}.png"
        (tmp_path / "moved" / name).write_bytes((root / item.path).read_bytes())
        moved.append(Item(name, name, item.labels))
    write_list(open_store(tmp_path), "moved.txt", moved, scheme)
    other = common | {"annotations": str(tmp_path / "moved.txt"), "root": str(tmp_path / "moved")}
    with pytest.raises(UserError, match=r"10 of 24 .*train\.txt.*\(6 by sha256\).*\(4 by sha256\)"):
        fuse(made(**other))
    assert list((tmp_path / "out-scores").rglob("scores.parquet")) == []  # nothing was scored
