# ruff: noqa: F811
"""A search whose driver and trials are killed ends with the trials of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from optuna.trial import TrialState

from rayapp.jobs.tune import tune
from rayapp.tune.settings import TuneSettings
from rayapp.tune.study import STUDY_FILE, STUDY_NAME
from tests.tune.conftest import calibrating, images, training  # noqa: F401  fixtures

pytestmark = [pytest.mark.drill, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 280
Made = Callable[..., TuneSettings]


class Job:
    """`jobs/tune.py` in a process of its own."""

    def __init__(self, settings: TuneSettings, folder: Path, *options: str) -> None:
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_defaults=True)))
        self.output = Path(settings.output)
        self.log = folder / "log.txt"
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "jobs" / "tune.py"), "--config", str(config), *options],
            stdout=self.log.open("a"),
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"},
        )

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """What Optuna itself reads from the study."""
        path = self.output / STUDY_FILE
        if not path.exists():
            return []
        backend = optuna.storages.journal.JournalFileBackend(str(path))
        storage = optuna.storages.JournalStorage(backend)
        if not storage.get_all_studies():
            return []
        return optuna.load_study(study_name=STUDY_NAME, storage=storage).trials

    def finished(self) -> int:
        return sum(trial.state.is_finished() for trial in self.trials())

    def wait_for(self, finished: int) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while self.finished() < finished:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def family(self) -> list[psutil.Process]:
        """The processes that this job started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def workers(self) -> list[psutil.Process]:
        """Those that run trials."""
        return [p for p in self.family() if "ImplicitFunc" in " ".join(p.cmdline())]

    def kill(self) -> None:
        """SIGKILL the driver; what it started is reaped if it does not go by itself."""
        family = self.family()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        _, alive = psutil.wait_procs(family, timeout=20)
        for process in alive:
            process.kill()

    def finish(self) -> int:
        return self.process.wait(TIMEOUT_S)


def _rows(settings: TuneSettings) -> list[dict[str, Any]]:
    """Every trial of a search without what the clock says."""
    table = pq.read_table(Path(settings.output) / "trials.parquet")
    return table.drop_columns(["seconds", "images_per_s"]).to_pylist()


def _whole(settings: TuneSettings, folder: Path) -> list[dict[str, Any]]:
    """The trials of the same search when nothing is killed."""
    folder.mkdir()
    whole = settings.model_copy(update={"output": str(folder / "out")})
    job = Job(whole, folder)
    assert job.finish() == 0, job.log.read_text()
    return _rows(whole)


@pytest.mark.first
def test_a_killed_driver_goes_on_where_it_was(calibrating: Made, tmp_path: Path) -> None:
    settings = calibrating(trials=12, cpus=1)
    job = Job(settings, tmp_path)
    job.wait_for(random.randint(2, 7))
    job.kill()
    before = [t for t in job.trials() if t.state.is_finished()]
    assert len(before) < 12
    tune(settings)
    after = job.trials()
    assert len(after) == 12
    assert all(trial.state == TrialState.COMPLETE for trial in after)
    for trial in before:  # not run again: not even its times have moved
        assert after[trial.number] == trial


def test_killed_at_random_it_equals_one_that_was_not(training: Made, tmp_path: Path) -> None:
    settings = training(trials=5, cpus=1, start={"ce": {"train.loss": "ce"}})
    job = Job(settings, tmp_path)
    job.wait_for(1)
    time.sleep(random.uniform(0, 1))
    workers = job.workers()
    assert workers
    workers[0].send_signal(signal.SIGKILL)  # a trial's process: Ray starts it again
    job.wait_for(2)
    time.sleep(random.uniform(0, 1))
    job.kill()
    kept = {t.number: t for t in job.trials() if t.state.is_finished()}
    job = Job(settings, tmp_path)
    assert job.finish() == 0, job.log.read_text()
    assert all(job.trials()[number] == trial for number, trial in kept.items())
    assert _rows(settings) == _whole(settings, tmp_path / "whole")


def test_the_hours_are_kept_and_the_rest_is_done_later(training: Made, tmp_path: Path) -> None:
    settings = training(
        trials=5000, cpus=2, num_trials_at_once=2
    )  # more than any machine does by then
    wanted_s = 75.0
    started = time.monotonic()
    job = Job(settings, tmp_path, "--hours", str(wanted_s / 3600))
    assert job.finish() == 0, job.log.read_text()
    seconds = time.monotonic() - started
    assert seconds == pytest.approx(wanted_s, rel=0.05)
    first = job.finished()
    assert 0 < first < settings.trials
    job = Job(settings, tmp_path, "--trials", str(first + 2))
    assert job.finish() == 0, job.log.read_text()
    assert job.finished() == first + 2


@pytest.mark.slow
def test_a_lost_machine_costs_no_trial(training: Made, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    os.environ["RAY_AUTH_MODE"] = "disabled"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    spot = [cluster.add_node(num_cpus=1) for _ in range(2)]
    try:
        settings = training(trials=6, num_trials_at_once=2)
        os.environ["RAY_ADDRESS"] = cluster.address
        job = Job(settings, tmp_path)
        job.wait_for(1)
        cluster.remove_node(spot[0], allow_graceful=False)
        assert job.finish() == 0, job.log.read_text()
        states = [trial.state for trial in job.trials()]
        assert states == [TrialState.COMPLETE] * 6
    finally:
        del os.environ["RAY_ADDRESS"]
        cluster.shutdown()
