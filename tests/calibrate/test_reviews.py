"""Calibration by a review: weighed it is near the whole set's, unweighed it is not."""

import json
from pathlib import Path

import numpy as np
import pytest

from rayapp import load_detector
from rayapp.calibrate.fit import calibrate
from rayapp.calibrate.given import REGRESSIONS_FILE, REVIEWS_FILE
from rayapp.calibrate.settings import CalibrateSettings
from rayapp.config.errors import UserError
from rayapp.dataset.labels import Item, load_scheme, read_list
from rayapp.dataset.manifest import read_table
from rayapp.metrics.traffic_files import read_reference
from rayapp.models.calibration.importance import Importance, even_sample
from rayapp.storage.uris import open_store
from tests.detectors import saved_detector, saved_scores, tiny_detector

NUM, PER_STRATUM = 6000, 250
LOGITS = np.linspace(-4, 4, 17)


def population(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of traffic, one image in eight synthetic, by an overconfident detector."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(NUM) < 1 / 8).astype(np.int64)
    return rng.normal(2.2 * labels - 1.0, 1.3), labels


def reviewed(seed: int, per_stratum: int = PER_STRATUM) -> tuple[list[str], np.ndarray, np.ndarray]:
    """A review as a gallery leads to it: files that declare otherwise first, then some at random.

    Most of what is synthetic declares so; those among them that the detector calls real come first,
    and tell nothing of what else it calls real. Gives lines of marks.csv, all logits and labels.
    """
    rng = np.random.default_rng(seed + 1000)
    logits, labels = population(seed)
    declares = (labels == 1) & (rng.random(NUM) < 0.8)
    otherwise = np.flatnonzero(declares & (logits < 0))
    lines = ["path,mark,stratum,stratum_images,all_images"]
    groups = {"declares otherwise": otherwise}
    for name, mine in (("called synthetic", logits >= 0), ("called real", logits < 0)):
        groups[f"drawn at random {name}"] = np.setdiff1d(np.flatnonzero(mine), otherwise)
    for name, members in groups.items():
        all_shown = name.startswith("declares")
        for at in members if all_shown else rng.choice(members, per_stratum, replace=False):
            mark = "synthetic" if labels[at] else "real"
            lines.append(f"{at:05d}.png,{mark},{name},{len(members)},{NUM}")
    return lines, logits, labels


def given(folder: Path, lines: list[str], logits: np.ndarray, **more: object) -> dict:
    (folder / "marks.csv").write_text("\n".join(lines) + "\n")
    items = [Item(f"{at:05d}.png", f"{at:05d}.png", (0,)) for at in range(len(logits))]
    return {
        "detector": saved_detector(folder / "detector"),
        "scores": saved_scores(
            folder / "scores", tiny_detector(), items, logits, load_scheme("reviewed")
        ),
        "reviews": str(folder / "marks.csv"),
        "output": str(folder / "out"),
        **more,
    }


def curve(uri: str) -> np.ndarray:
    found = load_detector(uri).spec.calibration
    assert found is not None
    return found.apply(LOGITS)


def whole_curve(folder: Path, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of the calibration that knows every label."""
    lines = "".join(f"{at:05d}.png,{label}\n" for at, label in enumerate(labels))
    (folder / "all.csv").write_text(lines)
    settings = CalibrateSettings(
        detector=str(folder / "detector"),
        scores=str(folder / "scores"),
        reviews=str(folder / "all.csv"),
        sampled="uniform",
        output=str(folder / "whole"),
    )
    calibrate(settings)
    return curve(settings.output)


def test_a_biased_review_gives_the_whole_sets_calibration_with_weights_alone(tmp_path: Path):
    with_weights, without = [], []
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        lines, logits, labels = reviewed(seed)
        asked = given(folder, lines, logits)
        calibrate(CalibrateSettings(**asked))
        wanted = whole_curve(folder, logits, labels)
        with_weights.append(np.abs(curve(asked["output"]) - wanted).max())
        calibrate(CalibrateSettings(**asked | {"sampled": "uniform", "output": f"{folder}/flat"}))
        without.append(np.abs(curve(f"{folder}/flat") - wanted).max())
    assert np.max(with_weights) < 0.07
    assert np.min(without) > 0.15


def test_the_new_detector_says_what_it_was_made_from(tmp_path: Path):
    lines, logits, _ = reviewed(5)
    lines[-1] = lines[-1].replace(",real,", ",unclear,").replace(",synthetic,", ",unclear,")
    asked = given(tmp_path, lines, logits)
    run = calibrate(CalibrateSettings(**asked))
    detector = load_detector(asked["output"])
    made = detector.spec.provenance["made_from"]
    assert made["detector"] == load_detector(asked["detector"]).hash()
    assert list(made["reviews"]) == [str(tmp_path / "marks.csv")]
    assert made["num_real"] + made["num_synthetic"] == len(lines) - 2
    assert made["num_unclear"] == run.counts["unclear"] == 1
    assert (
        json.loads((tmp_path / "out/detector.json").read_text())["provenance"]["made_from"] == made
    )
    kept = read_table(open_store(asked["output"]), REVIEWS_FILE)
    assert kept.num_rows == len(lines) - 2
    assert sum(kept["stands_for"].to_pylist()) == pytest.approx(NUM)
    reference = read_reference(asked["output"])
    assert reference is not None
    assert sum(len(one.whole().groups) for one in reference.values()) == 2


def test_the_regression_list_holds_what_was_called_wrong(tmp_path: Path):
    lines, logits, labels = reviewed(6)
    asked = given(tmp_path, lines, logits)
    run = calibrate(CalibrateSettings(**asked))
    listed = read_list(f"{asked['output']}/{REGRESSIONS_FILE}", load_scheme("reviewed"))
    marked = {line.split(",")[0] for line in lines[1:]}
    wrong = {f"{at:05d}.png" for at in np.flatnonzero((logits >= 0) != labels)} & marked
    assert {item.path for item in listed.items} == wrong
    assert run.results["called_wrong"] == len(wrong) > 50
    assert all(labels[int(item.path[:5])] == item.labels[0] for item in listed.items)


def test_marks_of_a_few_images_that_are_gone_are_left_out(tmp_path: Path):
    lines, logits, _ = reviewed(8)
    lines[1], lines[-1] = f"gone-{lines[1]}", f"gone-{lines[-1]}"
    first = min(lines[1], lines[-1]).split(",")[0]
    asked = given(tmp_path, lines, logits)
    run = calibrate(CalibrateSettings(**asked))
    assert run.counts["in"] == len(lines) - 3
    assert run.results["warnings"] == [f"marks left out for want of a score: 2; first: {first}"]
    kept = read_table(open_store(asked["output"]), REVIEWS_FILE)
    assert sum(kept["stands_for"].to_pylist()) == pytest.approx(NUM)
    lines[2:201] = [f"gone-{line}" for line in lines[2:201]]
    with pytest.raises(
        UserError, match=r"marks\.csv: 201 of .* images have no score; first: gone-"
    ):
        calibrate(CalibrateSettings(**given(tmp_path, lines, logits, output=f"{tmp_path}/other")))


def test_too_few_or_one_sided_marks_are_refused_in_a_line(tmp_path: Path):
    lines, logits, _ = reviewed(7, per_stratum=12)
    asked = given(tmp_path, lines, logits)
    with pytest.raises(
        UserError, match=r"too few marks to calibrate on: \d+ (real|synthetic), which"
    ):
        calibrate(CalibrateSettings(**asked))
    one_sided = [line.replace(",real,", ",synthetic,") for line in lines]
    (tmp_path / "marks.csv").write_text("\n".join(one_sided))
    with pytest.raises(UserError, match="needs both classes: 0 real"):
        calibrate(CalibrateSettings(**asked))
    assert not (tmp_path / "out").exists()


def test_a_promised_rate_is_counted_on_an_even_sample(tmp_path: Path):
    lines, logits, labels = reviewed(8, per_stratum=900)
    asked = given(tmp_path, lines, logits, fpr=0.05)
    calibrate(CalibrateSettings(**asked))
    found = load_detector(asked["output"]).spec.calibration
    assert found is not None
    assert found.operating_point is not None
    (rate,) = found.operating_point.rates
    assert rate.num_real < sum(",real," in line for line in lines)
    p = found.apply(logits[labels == 0])
    assert (p >= found.threshold).mean() < 0.06
    assert found.share_synthetic == pytest.approx(labels.mean(), abs=0.03)


def test_settings_that_do_not_go_together(tmp_path: Path):
    common = {"detector": "d", "output": "o"}
    for more, message in (
        ({}, "give annotations, a list, or reviews"),
        ({"annotations": "a", "reviews": "b"}, "not both"),
        ({"reviews": "b", "method": "auto"}, "name one for reviews"),
    ):
        with pytest.raises(ValueError, match=message):
            CalibrateSettings(**common, **more)


def test_an_even_sample_stands_for_the_population() -> None:
    rng = np.random.default_rng(9)
    weights = np.where(np.arange(4000) % 2, 10.0, 1.0)
    ids = [f"{at}" for at in range(4000)]
    kept = even_sample(weights, ids)
    assert kept[1::2].all()
    assert kept[0::2].mean() == pytest.approx(0.1, abs=0.02)
    labels = rng.integers(0, 2, 4000)
    found = Importance.of(weights, labels, ids)
    assert found.weights_N.mean() == pytest.approx(1)
    assert found.even_N.sum() >= kept.sum()
