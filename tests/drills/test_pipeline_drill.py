"""The whole pipeline: on a folder and in a bucket the same tables, and the same after kills."""

import csv
import io
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from rayapp.storage.uris import open_store
from tests.doubles.clouds import ACCOUNT_KEY
from tests.doubles.s3 import SECRET_KEY
from tests.drills.clusters import ROOT, environment
from tests.perturb.sets import make_set

pytestmark = [pytest.mark.drill, pytest.mark.timeout(1500)]

COUNTS = {"train": 48, "head": 24, "calibration": 12, "test": 28}
KILLS = 5
SECRETS = (SECRET_KEY, ACCOUNT_KEY, ACCOUNT_KEY.rstrip("="))


class Pipeline:
    """`jobs/benchmark.py` on a small set that it downloads from a folder."""

    def __init__(self, folder: Path, config: dict[str, Any], output: str) -> None:
        self.output = output
        self.log = folder / "log.txt"
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(config | {"output": output, "cpus": 2}))
        self.command = [sys.executable, str(ROOT / "jobs/benchmark.py"), "--config", str(path)]

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            # A session of its own: what Ray leaves to reap a dead driver kills its process group.
            return subprocess.Popen(
                self.command, env=environment(**env), stdout=log, stderr=log, start_new_session=True
            )

    def finish(self, **env: str) -> None:
        assert self.start(**env).wait(600) == 0, self.log.read_text()[-4000:]

    def tables(self) -> dict[str, Any]:
        """What the stages made: figures, scores' hash, perturbed pixels, images."""
        store = open_store(self.output)
        perturbed = json.loads(store.get("perturbed/run.json"))["results"]["pixels_sha256"]
        images = json.loads(store.get("images/run.json"))["results"]["content_sha256"]
        lines = csv.DictReader(io.StringIO(store.get("scores/scores.csv").decode("utf-8-sig")))
        logits = sorted((line["path"], line["logit"]) for line in lines)
        return {
            "figures": store.get("evaluation/metrics.csv").decode(),
            "scores": logits,
            "perturbed": perturbed,
            "images": images,
            "weights": json.loads(store.get("train/run.json"))["results"]["detector_hash"],
        }


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL the driver; what it started is reaped if it does not go by itself."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    for one in alive:
        one.kill()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Settings of the pipeline, without output: images in a folder, lists of each stage."""
    folder = tmp_path_factory.mktemp("sources")
    listed = make_set(folder, sum(COUNTS.values()), (260, 300))
    lines = iter(listed.read_text().splitlines(keepends=True))
    for name, count in COUNTS.items():
        (folder / f"{name}.txt").write_text("".join(next(lines) for _ in range(count)))
    source = {
        "about": "files of a folder",
        "at": [f"{folder}/{{name}}"],
        "form": "files",
        "paths": {"images/": "images/"},
        "licence": "CC0-1.0",
    }
    catalogue = folder / "sources.yaml"
    catalogue.write_text(yaml.safe_dump({"origins": {}, "sources": {"folder": source}}))
    stage = {"epochs": 1, "batch_size": 12}
    lists = {name: str(folder / f"{name}.txt") for name in COUNTS}
    return {
        "scheme": "demo",
        "sources": ["folder"],
        "download": {"catalogue": str(catalogue)},
        "lists": {
            "train": [lists["train"]],
            "head": [lists["head"]],
            "calibration": lists["calibration"],
            "test": [lists["test"]],
        },
        "recipe": "demo",
        "tiles": True,
        "train": {"stage1": stage, "stage2": stage},
        "evaluate": {"resamples": 100},
    }


@pytest.fixture(scope="module")
def undisturbed(
    config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], float]:
    """The tables of a run that nothing disturbs, and its seconds."""
    folder = tmp_path_factory.mktemp("undisturbed")
    pipeline = Pipeline(folder, config, str(folder / "out"))
    start = time.monotonic()
    pipeline.finish()
    return pipeline.tables(), time.monotonic() - start


def test_a_bucket_gives_the_tables_of_a_folder(
    config: dict[str, Any], undisturbed: tuple[dict[str, Any], float], tmp_path: Path, bucket: str
) -> None:
    pipeline = Pipeline(tmp_path, config, f"{bucket}/pipeline")
    pipeline.finish()
    assert pipeline.tables() == undisturbed[0]
    _holds_no_secret(pipeline)


@pytest.mark.slow
@pytest.mark.parametrize("bucket", ["gs", "az"], indirect=True)
def test_killed_ten_times_in_a_cloud_it_gives_the_same(
    config: dict[str, Any], undisturbed: tuple[dict[str, Any], float], tmp_path: Path, bucket: str
) -> None:
    expected, seconds = undisturbed
    pipeline = Pipeline(tmp_path, config, f"{bucket}/killed")
    for _ in range(10):
        process = pipeline.start()
        try:
            process.wait(random.uniform(0.1, 0.4) * seconds)
        except subprocess.TimeoutExpired:
            kill(process)
    pipeline.finish()
    assert pipeline.tables() == expected
    _holds_no_secret(pipeline)


def _holds_no_secret(pipeline: Pipeline) -> None:
    said = pipeline.log.read_text()
    assert not any(secret in said for secret in SECRETS)
    for stat in open_store(pipeline.output).list():
        if stat.key.endswith((".json", ".csv", ".html", ".txt")):
            written = open_store(pipeline.output).get(stat.key)
            assert not any(secret.encode() in written for secret in SECRETS), stat.key


def test_killed_five_times_it_gives_the_same_and_does_no_stage_twice(
    config: dict[str, Any], undisturbed: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    expected, seconds = undisturbed
    output = tmp_path / "out"
    pipeline = Pipeline(tmp_path, config, str(output))

    def finished() -> dict[str, int]:
        # Download and prune look each time at what is there, and say so anew.
        marks = [p for p in output.glob("*/run.json") if p.parent.name not in {"images", "prune"}]
        return {p.parent.name: p.stat().st_mtime_ns for p in marks}

    done: dict[str, int] = {}
    for _ in range(KILLS):
        process = pipeline.start()
        try:
            process.wait(random.uniform(0.2, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            kill(process)
        assert done.items() <= finished().items()
        done = finished()
    pipeline.finish()
    assert done.items() <= finished().items()
    assert pipeline.tables() == expected
    assert not list(output.rglob("*.part"))
