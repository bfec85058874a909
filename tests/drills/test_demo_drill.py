"""The demo as a process: interrupted and continued, and on one CPU as on two."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

JOB = Path(__file__).parents[2] / "jobs" / "demo.py"
ENVIRONMENT = os.environ | {"RAY_AUTH_MODE": "disabled"}


def start(output: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(JOB), "--tiny", "--output", str(output), *options]
    return subprocess.Popen(
        command,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell's background jobs ignore it, and so would theirs.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finished_stages(output: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in output.glob("*/run.json")}


@pytest.mark.drill
@pytest.mark.first
@pytest.mark.timeout(600)
def test_interrupted_then_continued_without_redoing_a_stage(tmp_path: Path):
    process = start(tmp_path / "demo")
    # After a random step, and a random moment into the next: what is done is not done again.
    done = random.randint(1, 4)
    while len(finished_stages(tmp_path / "demo")) < done and process.poll() is None:
        time.sleep(0.02)
    time.sleep(random.uniform(0, 0.5))
    before = finished_stages(tmp_path / "demo")
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 130, said
    assert "the same command goes on from here" in said
    assert "Traceback" not in said

    said, _ = start(tmp_path / "demo").communicate()
    assert "demo: all steps are done" in said
    after = finished_stages(tmp_path / "demo")
    assert before.items() <= after.items()
    assert json.loads((tmp_path / "demo/metrics.json").read_text())["num_test_photographs"] >= 4


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_one_cpu_gives_what_two_give(tmp_path: Path):
    for cpus in ("1", "2"):
        said, _ = start(tmp_path / cpus, "--cpus", cpus).communicate()
        assert "demo: all steps are done" in said, said
    tables = [pq.read_table(tmp_path / cpus / "perturbed/manifest.parquet") for cpus in "12"]
    assert tables[0].num_rows > 50
    for column in ("id", "path", "sha256", "pixel_sha256", "plan"):
        assert tables[0][column].equals(tables[1][column]), column
    metrics = [json.loads((tmp_path / cpus / "metrics.json").read_text()) for cpus in "12"]
    for name in ("seen_roc_auc", "held_out_roc_auc", "clean_seen_roc_auc"):
        assert metrics[0][name] == pytest.approx(metrics[1][name], abs=0.01)
