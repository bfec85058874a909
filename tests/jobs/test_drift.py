"""Drift as a command: from scored images to its exit code, page and figures."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from rayapp.calibrate.fit import calibrate
from rayapp.calibrate.settings import CalibrateSettings
from rayapp.dataset.labels import load_scheme
from rayapp.metrics.traffic import Traffic
from rayapp.metrics.traffic_files import read_reference
from rayapp.storage.uris import open_store
from tests.detectors import listed, saved_detector, saved_scores, tiny_detector

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def calibrated(tmp_path: Path) -> str:
    """A detector that was calibrated on 800 images; its folder."""
    origins = [0, 1] * 400
    scheme = load_scheme("demo")
    items = listed(tmp_path / "calibration.txt", origins, scheme)
    logits = np.random.default_rng(0).normal(3 * np.array(origins) - 1.5, 1.0)
    settings = CalibrateSettings(
        detector=saved_detector(tmp_path / "bare"),
        scores=saved_scores(tmp_path / "scores", tiny_detector(), items, logits, scheme),
        annotations=str(tmp_path / "calibration.txt"),
        scheme="demo",
        output=str(tmp_path / "detector"),
    )
    calibrate(settings)
    return settings.output


def counts(folder: Path, detector: str, up: float, day: str = "2026-11-29") -> str:
    reference = read_reference(detector)
    assert reference is not None
    traffic = Traffic(reference["real"].detector, reference["real"].decided)
    rng = np.random.default_rng(1)
    for logit in rng.normal(-1.5 + up, 1.0, 400):
        traffic.add({"logit": float(logit), "verdict": "synthetic" if logit > 0 else "real"}, day)
    open_store(folder).put(f"traffic/{day}.json", traffic.to_json().encode())
    return str(folder)


def drift(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["imaginet drift", *options])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "jobs/drift.py"), run_name="__main__")
    return int(left.value.code or 0)


def test_the_exit_code_the_page_and_the_figures_say_the_same(
    calibrated: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    same = counts(tmp_path / "same", calibrated, 0.0)
    output = ("--against", calibrated, "--output", str(tmp_path / "none"))
    assert drift(monkeypatch, "--counts", same, *output) == 0
    told = capsys.readouterr().out
    assert "2026-11-29: no drift found" in told
    assert "is compared with the mix of the calibration's classes that lies nearest\n" in told
    moved = counts(tmp_path / "moved", calibrated, 0.7)
    counts(tmp_path / "moved", calibrated, 0.0, "2026-11-28")
    output = ("--against", calibrated, "--output", str(tmp_path / "found"))
    assert drift(monkeypatch, "--counts", moved, *output) == 3
    told = capsys.readouterr().out
    assert "scores shift: thresholds may no longer hold" in told
    assert "next: mark images of these days" in told
    found = json.loads((tmp_path / "found/drift.json").read_text())
    assert found["outcome"].startswith("scores shift")
    assert found["comparisons"][0]["differs"]
    assert "imaginet_drift_found{" in (tmp_path / "found/drift.prom").read_text()
    page = (tmp_path / "found/drift.html").read_text()
    assert page.count("data:image/svg+xml") == 2  # the scores, and the days
    assert "Scores shift: thresholds may no longer hold." in page
    assert drift(monkeypatch, "--counts", moved, *output) == 3  # done before: it says the same
    assert "2026-11-29: scores shift" in capsys.readouterr().out


def test_false_positives_of_known_real_images(
    calibrated: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = counts(tmp_path / "counts", calibrated, 0.0)
    scheme = load_scheme("demo")
    items = listed(tmp_path / "known.txt", [0] * 60, scheme)
    logits = np.where(np.arange(60) < 6, 3.0, -3.0)
    scores = saved_scores(tmp_path / "known", tiny_detector(), items, logits, scheme)
    (tmp_path / "marks.csv").write_text("".join(f"{item.path},0\n" for item in items))
    given = ("--counts", folder, "--against", calibrated, "--output", str(tmp_path / "out"))
    given += ("--marks", str(tmp_path / "marks.csv"), "--scores", scores)
    assert drift(monkeypatch, *given) == 2
    assert "does not say how its images were chosen" in capsys.readouterr().err
    assert drift(monkeypatch, *given, "--sampled", "uniform") == 0
    told = capsys.readouterr().out
    assert "false positives: 10.00% [3.76%, 20.51%] of 60 known real" in told
    assert "marked); of all days: their scores do not say when" in told
    with (tmp_path / "marks.csv").open("a") as more:
        more.write("gone.png,0\n")  # its file left a folder that is followed
    given = (*given[:5], str(tmp_path / "again"), *given[6:], "--sampled", "uniform")
    assert drift(monkeypatch, *given) == 0
    told = capsys.readouterr().out
    assert "of 60 known real" in told
    assert "marks left out for want of a score: 1; first: gone.png" in told


def test_false_positives_are_those_of_the_day(
    calibrated: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Scores and counts of one output of predict: its images are of the day that it counts."""
    folder, scheme = counts(tmp_path / "today", calibrated, 0.0), load_scheme("demo")
    items = listed(tmp_path / "known.txt", [0] * 60, scheme)
    saved_scores(tmp_path / "today", tiny_detector(), items[:20], np.full(20, -3.0), scheme)
    counts(tmp_path / "before", calibrated, 0.0, "2026-11-01")
    saved_scores(tmp_path / "before", tiny_detector(), items[20:], np.full(40, 3.0), scheme)
    (tmp_path / "marks.csv").write_text("".join(f"{item.path},0\n" for item in items))
    given = ("--counts", folder, "--against", calibrated, "--output", str(tmp_path / "out"))
    given += ("--marks", str(tmp_path / "marks.csv"), "--sampled", "uniform")
    given += ("--scores", folder, str(tmp_path / "before"))
    assert drift(monkeypatch, *given) == 0
    told = capsys.readouterr().out
    assert "false positives: 0.00%" in told
    assert "of 20 known real images (20 marked); scored on 2026-11-29; 60 marked in all" in told


def test_two_folders_of_one_day_are_compared_as_wholes(
    calibrated: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, other = counts(tmp_path / "one", calibrated, 0.0), counts(tmp_path / "b", calibrated, 0.7)
    monkeypatch.chdir(tmp_path)
    given = ("--counts", one, "--against", other, "--output", str(tmp_path / "out"))
    assert drift(monkeypatch, *given) == 3
    told = capsys.readouterr().out
    assert "2026-11-29 is compared with 2026-11-29 of b\n" in told
    assert "2026-11-29: scores differ from the other counts" in told
    page = (tmp_path / "out/drift.html").read_text()
    assert "2026-11-29 is compared with 2026-11-29 of b." in page
    figures = json.loads((tmp_path / "out/drift.json").read_text())
    assert figures["compared_with"] == "2026-11-29 of b"
