"""Own images to a report by commands alone: annotate, audit, train, predict, …, report."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from PIL import Image

from rayapp.demo.photographs import crops, shipped_photographs

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]
GENERATORS = {
    "smooth": lambda p: cv2.GaussianBlur(p, (0, 0), 1.5),
    "blocky": lambda p: cv2.resize(p[::2, ::2], p.shape[1::-1], interpolation=0),
    "unseen": lambda p: cv2.medianBlur(p, 5),
}


def run(name, *words):
    kept = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, str(ROOT / f"jobs/{name}.py"), *words, "--cpus", "2"],
        env=kept | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_own_images_become_a_report_without_a_list_by_hand(tmp_path):
    own = tmp_path / "own"
    for at, crop in enumerate(c for photo in shipped_photographs() for c in crops(photo, 12)):
        name = list(GENERATORS)[at % 3] if at % 2 else ""
        path = own / (f"synthetic/{name}" if name else "real") / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = GENERATORS[name](crop.pixels_HWC) if name else crop.pixels_HWC
        Image.fromarray(pixels).save(path)
    lists, scheme = f"{tmp_path}/annotated/lists", f"{tmp_path}/annotated/scheme.yaml"
    root = ("--root", str(own), "--scheme", scheme)
    steps = [
        (
            "annotate",
            "--input",
            str(own),
            "--hold-out",
            "unseen",
            "--output",
            f"{tmp_path}/annotated",
        ),
        (
            "train",
            "--config",
            "demo",
            *root,
            "--annotations",
            f"{lists}/train.txt",
            "--head-annotations",
            f"{lists}/head.txt",
            "--output",
            f"{tmp_path}/train",
            "--stage1.epochs",
            "1",
            "--stage2.epochs",
            "1",
            "--stage1.batch-size",
            "16",
            "--stage2.batch-size",
            "16",
        ),
    ]
    detector = f"{tmp_path}/train/detector"
    steps += [
        (
            "predict",
            "--detector",
            detector,
            "--input",
            f"{lists}/{part}.txt",
            *root,
            "--output",
            f"{tmp_path}/scores-{part}",
        )
        for part in ("calibration", "test")
    ]
    steps += [
        (
            "calibrate",
            "--detector",
            detector,
            "--scores",
            f"{tmp_path}/scores-calibration",
            "--annotations",
            f"{lists}/calibration.txt",
            "--scheme",
            scheme,
            "--output",
            f"{tmp_path}/detector",
        ),
        (
            "evaluate",
            "--detector",
            f"{tmp_path}/detector",
            "--scores",
            f"{tmp_path}/scores-test",
            "--annotations",
            f"{lists}/test.txt",
            "--scheme",
            scheme,
            "--held-out",
            "unseen",
            "--output",
            f"{tmp_path}/evaluation",
        ),
        ("report", "--evaluations", f"{tmp_path}/evaluation", "--output", f"{tmp_path}/report"),
    ]
    for words in steps:
        code, out, err = run(*words)
        assert code == 0, f"{words}: {out}\n{err}"
    assert "unseen" in (tmp_path / "report/report.html").read_text()

    names = [f"{lists}/{name}.txt" for name in ("train", "head", "calibration", "test")]
    code, out, _ = run("audit", *root, "--annotations", *names, "--output", f"{tmp_path}/audit")
    assert (tmp_path / "audit/audit.html").exists()
    assert "are in the test lists" not in out  # what annotate deals is disjoint
    assert "under another name" not in out
