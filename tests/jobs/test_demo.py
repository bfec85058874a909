import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from rayapp import load_detector
from rayapp.config.errors import UserError
from rayapp.demo.settings import DemoSettings
from rayapp.jobs.demo import run_demo
from rayapp.metrics.ranking import roc_auc

pytestmark = pytest.mark.timeout(600)  # the first to ask for a demo waits for it
STAGES = (
    "data",
    "perturbed",
    "train",
    "scores",
    "detector",
    "evaluation",
    "evaluation-clean",
    "report",
)


@pytest.mark.ray
def test_every_stage_is_done_and_named_in_the_report(demo: Path):
    for stage in STAGES:
        assert json.loads((demo / stage / "run.json").read_text())["counts"]
    metrics = json.loads((demo / "metrics.json").read_text())
    assert 0 <= metrics["seen_roc_auc"] <= 1
    assert 0 <= metrics["held_out_roc_auc"] <= 1
    # Whoever takes the detector for more than a demonstration reads otherwise.
    said = load_detector(demo / "detector").scope_line
    for words in (
        "a demonstration",
        "fifteen photographs",
        "four toy generators",
        "ROC AUC 0.33",
        "53 % of the real ones",
        "measured on ",
    ):
        assert words in said
    page = (demo / "report.html").read_text()
    assert all(word in page for word in ("speak", "toys", "perturb", "held-out"))


@pytest.mark.ray
def test_a_second_run_does_nothing_again(demo: Path):
    run_demo(DemoSettings(output=str(demo), tiny=True))  # other tests may have added to it
    before = {path: path.stat().st_mtime_ns for path in demo.rglob("*") if path.is_file()}
    run_demo(DemoSettings(output=str(demo), tiny=True))
    after = {path: path.stat().st_mtime_ns for path in demo.rglob("*") if path.is_file()}
    changed = {path.relative_to(demo).as_posix() for path in after if after[path] != before[path]}
    assert changed == {"metrics.json", "report.html"}


@pytest.mark.ray
@pytest.mark.parametrize("feature", ["bytes", "width", "height", "format"])
def test_container_and_size_do_not_tell_the_classes_apart(demo: Path, feature: str):
    rows = pq.read_table(demo / "data" / "manifest.parquet")
    values = np.unique(rows[feature].to_pylist(), return_inverse=True)[1]
    auc = roc_auc(rows["origin"].to_pylist(), values.astype(float)).value
    assert auc is not None
    assert 0.45 <= auc <= 0.55


@pytest.mark.ray
def test_a_lost_stage_alone_is_done_again(demo: Path):
    before = {stage: (demo / stage / "run.json").stat().st_mtime_ns for stage in STAGES}
    shutil.rmtree(demo / "evaluation-clean")
    run_demo(DemoSettings(output=str(demo), tiny=True))
    after = {stage: (demo / stage / "run.json").stat().st_mtime_ns for stage in STAGES}
    redone = {stage for stage in STAGES if before[stage] != after[stage]}
    assert redone == {"evaluation-clean", "report"}  # the report says when each stage ran


@pytest.mark.ray
@pytest.mark.slow
def test_another_loss_is_refused_and_with_overwrite_replaces_what_follows_from_it(demo: Path):
    marks = {stage: (demo / stage / "run.json").stat().st_mtime_ns for stage in STAGES}
    report = (demo / "report.html").read_bytes()
    with pytest.raises(UserError, match='setting loss was "selfcon", now "ce"'):
        run_demo(DemoSettings(output=str(demo), tiny=True, loss="ce"))
    assert (demo / "report.html").read_bytes() == report
    run_demo(DemoSettings(output=str(demo), tiny=True, loss="ce", overwrite=True))
    after = {stage: (demo / stage / "run.json").stat().st_mtime_ns for stage in STAGES}
    assert {stage for stage in STAGES if marks[stage] == after[stage]} == {"data", "perturbed"}
    run_demo(DemoSettings(output=str(demo), tiny=True, overwrite=True))  # as others want it
