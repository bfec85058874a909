"""The card of a detector, as a user asks for it."""

import runpy
import sys
from pathlib import Path

import pytest

from rayapp.models.detector import Detector
from rayapp.models.folder import save_detector
from rayapp.models.scope import Images, Measured, Quantity, Scope, published_scope
from rayapp.storage.uris import open_store
from tests.detectors import saved_detector, tiny_detector
from tests.models.test_folder import calibration

JOB = Path(__file__).parents[2] / "jobs/describe.py"


def described(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["describe.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(JOB), run_name="__main__")
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_the_card_says_what_is_known(tmp_path: Path, monkeypatch, capsys) -> None:
    plain = tiny_detector()
    scope = Scope(
        about="a toy",
        trained=Images(
            lists=("a/train.txt",),
            num_real=12,
            num_synthetic=8,
            generators=("A",),
            date="2026-01-02T03:04:05Z",
        ),
        calibrated=Images(
            lists=("a/calibration.txt",), num_real=4, num_synthetic=5, date="2026-01-03"
        ),
        measured=(
            Measured(
                name="Own images",
                num_real=24,
                num_synthetic=0,
                date="2026-02-03",
                figures={"false_positive_rate": Quantity(value=0.125, low=0.02, high=0.3)},
            ),
        ),
    )
    spec = plain.spec.model_copy(update={"scope": scope, "calibration": calibration(plain)})
    digest = save_detector(Detector(plain.network, spec), open_store(tmp_path / "d"))
    (tmp_path / "d/model.safetensors").unlink()  # the card needs no weights
    code, out, _ = described(monkeypatch, capsys, str(tmp_path / "d"))
    assert code == 0
    assert out.splitlines() == [
        str(tmp_path / "d"),
        "  is            a toy",
        "  network       highpass-small; sees an image as centre, 32 px",
        "  tells         real, synthetic",
        "  trained on    train.txt (12 real, 8 synthetic by A) (2026-01-02)",
        "  calibrated    calibration.txt (4 real, 5 synthetic) (2026-01-03)",
        "                platt; synthetic from p ≥ 0.5; never unsure",
        "  measured on   Own images (24 real, 0 synthetic) (2026-02-03)",
        "                  false-positive rate 12.5 % (2.0–30.0)",
        f"  hash          {digest}",
    ]


def test_what_is_not_known_is_said_too(tmp_path: Path, monkeypatch, capsys) -> None:
    code, out, _ = described(monkeypatch, capsys, "--detector", saved_detector(tmp_path))
    assert code == 0
    assert "trained on    not recorded" in out
    assert "measured on   nothing that is recorded: how often it is wrong is not known" in out
    assert "calibrated    no: its probabilities order images, and say no more than that" in out


def test_figures_of_others_stand_with_their_source(tmp_path: Path, monkeypatch, capsys) -> None:
    plain = tiny_detector()
    provenance = {"published": "commfor", "from": ["hf://x"], "licence": "MIT"}
    spec = plain.spec.model_copy(
        update={"scope": published_scope("commfor"), "provenance": provenance}
    )
    save_detector(Detector(plain.network, spec), open_store(tmp_path))
    _, out, _ = described(monkeypatch, capsys, str(tmp_path))
    assert "balanced accuracy 65.9 %" in out
    assert "(2026-11), by README of Phineas1500/sieve" in out
    assert "licence       MIT" in out


def test_no_detector_is_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    code, out, err = described(monkeypatch, capsys, str(tmp_path / "none"))
    assert (code, out) == (2, "")
    assert err == f"error: {tmp_path}/none: no such detector (it has no detector.json)\n"


def test_a_calibration_that_turns_the_scores_round_is_named(tmp_path, monkeypatch, capsys) -> None:
    plain = tiny_detector()
    fit = calibration(plain)
    fit = fit.model_copy(update={"method": "platt", "parameters": {"slope": -593.0, "bias": 1.0}})
    detector = Detector(plain.network, plain.spec.model_copy(update={"calibration": fit}))
    said = "it turns the scores round (slope -593)"
    assert detector.scope_line.endswith(f"; calibration: {said}")
    assert said not in plain.scope_line
    save_detector(detector, open_store(tmp_path / "turned"))
    code, out, err = described(monkeypatch, capsys, str(tmp_path / "turned"))
    assert (code, err) == (0, "")
    assert said in out
