# ruff: noqa: F811
"""Training whose worker or driver is killed ends with the weights of one that was not."""

import csv
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml

from rayapp.models.folder import load_detector
from rayapp.storage.uris import open_store
from rayapp.train.engine import Engine
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings
from tests.ddp import RankPool
from tests.train.conftest import data, tiny  # noqa: F401  fixtures, named again by the tests
from tests.train.ranks import weights_on_rank

pytestmark = [pytest.mark.drill, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 270
Tiny = Callable[..., TrainSettings]


class Job:
    """`jobs/train.py` in a process of its own."""

    def __init__(self, settings: TrainSettings, folder: Path, address: str = "") -> None:
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True)))
        self.output = Path(settings.output)
        self._log = (folder / "log.txt").open("a")
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "jobs" / "train.py"), "--config", str(config)],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "RAY_ADDRESS": address,
                "RAY_AUTH_MODE": "disabled",
                "RAY_raylet_start_wait_time_s": "120",  # other drills may load the machine
            },
        )

    def epochs(self) -> int:
        """Epochs that are through."""
        metrics = self.output / "metrics.csv"
        return len(metrics.read_text().splitlines()) - 1 if metrics.exists() else 0

    def workers(self) -> list[int]:
        """On how many workers each epoch ran."""
        lines = csv.DictReader((self.output / "metrics.csv").read_text().splitlines())
        return [int(line["workers"]) for line in lines]

    def wait_for_epoch(self, number: int) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while self.epochs() < number:
            assert self.process.poll() is None, "the job ended before it could be killed"
            assert time.monotonic() < deadline, "the job makes no progress"
            time.sleep(0.02)

    def family(self) -> list[psutil.Process]:
        """The processes that this job started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def finish(self) -> int:
        return self.process.wait(TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL the driver; what it started is reaped if it does not go by itself."""
        family = self.family()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        _, alive = psutil.wait_procs(family, timeout=20)
        for process in alive:
            process.kill()


def _check(settings: TrainSettings, expected: dict[str, Any]) -> None:
    found = load_detector(Path(settings.output) / "detector").network.state_dict()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


@pytest.mark.first
def test_a_killed_worker_changes_nothing(tiny: Tiny, tmp_path: Path, ranks: RankPool) -> None:
    settings = tiny(cpus=1, on_ray=True, stage1__epochs=15)  # one worker on one CPU
    job = Job(settings, tmp_path)
    job.wait_for_epoch(random.randint(2, 8))
    worker = next(p for p in job.family() if "RayTrainWorker" in " ".join(p.cmdline()))
    worker.send_signal(signal.SIGKILL)
    assert job.finish() == 0
    assert job.epochs() == 17
    assert "train: worker 0 failed: The actor died" in (tmp_path / "log.txt").read_text()
    _check(settings, ranks.run(weights_on_rank, [(settings,)])[0])


def test_a_killed_driver_goes_on_by_the_same_command(
    tiny: Tiny, tmp_path: Path, ranks: RankPool
) -> None:
    settings = tiny(cpus=2, num_workers=2, stage1__epochs=15)  # two workers on two CPUs
    job = Job(settings, tmp_path)
    job.wait_for_epoch(random.randint(3, 8))
    job.kill()
    before = job.epochs()
    assert 0 < before < 17
    job = Job(settings, tmp_path)
    assert job.finish() == 0
    assert job.epochs() == 17
    _check(settings, ranks.run(weights_on_rank, [(settings,)] * 2)[0])


def test_everything_may_lie_in_a_bucket(
    tiny: Tiny, data: Path, tmp_path: Path, bucket: str
) -> None:
    root = f"{bucket}/train"
    images = open_store(f"{root}/images")
    for file in data.iterdir():
        images.put(file.name, file.read_bytes())
    settings = tiny(
        cpus=2,
        on_ray=True,
        root=images.uri(),
        annotations=[images.uri("all.txt")],
        output=f"{root}/out",
        stage1__epochs=1,
        stage2__epochs=1,
    )
    assert Job(settings, tmp_path).finish() == 0
    output = open_store(settings.output)
    recorded = json.loads(output.get("run.json"))["results"]["detector_hash"]
    assert load_detector(output.uri("detector")).hash() == recorded
    assert output.stat("metrics.csv") is not None
    assert not list(output.list("checkpoints/"))


def test_a_stream_trains_too_and_says_that_it_cannot_be_repeated(
    tiny: Tiny, data: Path, tmp_path: Path
) -> None:
    settings = tiny(
        cpus=2, num_workers=2, ingest="stream", validation=[str(data / "all.txt")], stage2__epochs=6
    )
    assert Job(settings, tmp_path).finish() == 0
    record = json.loads((Path(settings.output) / "run.json").read_text())
    assert record["counts"] == {"stage1 items": 44, "stage2 items": 44, "unreadable": 0}
    assert record["results"]["reproducible"] is False
    lines = list(csv.DictReader((Path(settings.output) / "metrics.csv").read_text().splitlines()))
    assert [line["images"] for line in lines] == [str(36 * (n + 1)) for n in range(8)]
    assert record["results"]["validation_loss"] < 0.69, "no better than chance"


def _elastic(tiny: Tiny, **changes: Any) -> TrainSettings:
    """Two workers, or one while the other's machine is away.

    The rate is one at which what is rounded otherwise on one worker stays under 1e-5 for as many
    steps as it takes to lose a machine and get it back; one step left out or done twice does not.
    """
    return tiny(
        num_workers=2,
        min_workers=1,
        cpus_per_worker=1,
        resize_check_s=2,
        stage1__learning_rate=2e-5,
        stage1__optimizer="sgd",
        stage2__learning_rate=0.001,
        stage2__optimizer="sgd",
        **changes,
    )


def _check_close(settings: TrainSettings, ranks: RankPool) -> None:
    expected = ranks.run(weights_on_rank, [(settings,)], timeout_s=TIMEOUT_S)[0]
    found = load_detector(Path(settings.output) / "detector").network.state_dict()
    untrained = Engine(make_job(settings)[0]).network.state_dict()
    moved = {n: float((t - untrained[n]).abs().max()) for n, t in expected.items() if "blocks" in n}
    assert max(moved.values()) > 1e-3, "too little was learnt to tell anything"
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_lost_worker_comes_back(
    tiny: Tiny, tmp_path: Path, ranks: RankPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")
    settings = _elastic(tiny, stage1__epochs=200)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1)
        job = Job(settings, tmp_path, cluster.address)
        job.wait_for_epoch(5)
        cluster.remove_node(node, allow_graceful=False)
        at = job.epochs()
        job.wait_for_epoch(at + 5)
        assert job.workers()[-1] == 1
        cluster.add_node(num_cpus=1)
        assert job.finish() == 0
    finally:
        cluster.shutdown()
    counts = [count for count, _ in itertools.groupby(job.workers())]
    assert counts == [2, 1, 2]
    _check_close(settings, ranks)


@pytest.mark.slow
def test_the_state_is_kept_before_a_machine_is_taken_away(
    tiny: Tiny, data: Path, tmp_path: Path, ranks: RankPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")
    # 127 steps an epoch: one that is cut will not look like one that ended by itself.
    root, lines = tmp_path / "images", (data / "all.txt").read_text().splitlines()
    for copy in range(23):
        (root / str(copy)).mkdir(parents=True)
        for image in data.glob("*.png"):
            os.link(image, root / str(copy) / image.name)
    (root / "all.txt").write_text("\n".join(f"{n}/{line}" for n in range(23) for line in lines))
    settings = _elastic(
        tiny,
        root=str(root),
        annotations=[str(root / "all.txt")],
        stage1__epochs=10,
        stage1__batch_size=8,
        stage2__epochs=1,
    )
    per_epoch = 127
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1)
        job = Job(settings, tmp_path, cluster.address)
        job.wait_for_epoch(2)
        subprocess.run(
            [
                str(Path(sys.executable).with_name("ray")),
                "drain-node",
                "--address",
                cluster.address,
                "--node-id",
                node.node_id,
                "--reason",
                "DRAIN_NODE_REASON_PREEMPTION",
                "--reason-message",
                "spot",
                "--deadline-remaining-seconds",
                "15",
            ],
            check=True,
            capture_output=True,
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        )
        time.sleep(20)
        cluster.remove_node(node, allow_graceful=False)
        assert job.finish() == 0
    finally:
        cluster.shutdown()
    lines = list(csv.DictReader((job.output / "metrics.csv").read_text().splitlines()))
    steps = [int(line["step"]) for line in lines if line["stage"] == "stage1"]
    assert any(step % per_epoch for step in steps), "no epoch was cut to keep its state"
    assert steps == sorted(set(steps)), "a step was done twice"
    assert {"1", "2"} == {line["workers"] for line in lines}
    _check_close(settings, ranks)
