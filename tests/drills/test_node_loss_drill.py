# ruff: noqa: F811
"""One of three nodes is lost at a random moment: every job gives what it gives undisturbed.

The download's own drill of this is test_42_a_lost_node in test_download.py.
"""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from rayapp import load_detector
from rayapp.train.settings import TrainSettings
from tests.ddp import RankPool
from tests.detectors import saved_detector
from tests.drills.clusters import raylets, started, wait_until
from tests.drills.test_perturb_drill import pixels_without_ray
from tests.perturb.sets import make_set
from tests.train.conftest import data, tiny  # noqa: F401  fixtures, named again by the tests
from tests.train.ranks import weights_on_rank

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster():
    """Three nodes; a test that takes one away leaves two, and the next one adds one."""
    with raylets(3) as cluster:
        yield cluster


@pytest.fixture
def lose_a_node(cluster: Any) -> Callable[[], None]:
    """Kills a node that is not the head; three are there before."""
    while len(cluster.worker_nodes) < 2:
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()

    def lose() -> None:
        time.sleep(random.uniform(0, 1.5))
        node = random.choice(sorted(cluster.worker_nodes, key=lambda one: one.unique_id))
        cluster.remove_node(node, allow_graceful=False)

    return lose


def test_perturb(cluster: Any, lose_a_node: Callable[[], None], tmp_path: Path) -> None:
    folder, output, log = tmp_path / "in", tmp_path / "out", tmp_path / "log.txt"
    listed = make_set(folder, 240, (200, 300))
    options = ("--annotations", str(listed), "--root", str(folder), "--scheme", "demo")
    options += ("--perturbation", "blur-grid", "--output", str(output))
    process = started(log, "perturb", *options, RAY_ADDRESS=cluster.address)
    wait_until(process, lambda: len(list(output.rglob("*.webp"))) > 60)
    lose_a_node()
    assert process.wait(400) == 0, log.read_text()[-3000:]
    record = json.loads((output / "run.json").read_text())
    assert record["counts"]["in"] == 240
    assert record["counts"]["failed"] == 0
    names = [f"images/{path.name}" for path in (folder / "images").iterdir()]
    expected = pixels_without_ray(folder, tmp_path / "bare", "blur-grid", names)
    assert record["results"]["pixels_sha256"] == expected
    assert not list(output.rglob("*.part"))


def test_predict(cluster: Any, lose_a_node: Callable[[], None], tmp_path: Path) -> None:
    folder, output, log = tmp_path / "in", tmp_path / "out", tmp_path / "log.txt"
    make_set(folder, 1_500, (300, 400))
    detector = saved_detector(tmp_path / "detector")
    options = ("--detector", detector, "--input", str(folder / "images"), "--output", str(output))
    process = started(log, "predict", *options, RAY_ADDRESS=cluster.address)
    wait_until(process, lambda: list(output.glob("parts/predict/[!.]*")))
    lose_a_node()
    assert process.wait(400) == 0, log.read_text()[-3000:]
    rows = pq.read_table(output / "scores.parquet").to_pylist()
    files = sorted((folder / "images").iterdir())
    assert [row["path"] for row in rows] == [file.name for file in files]
    sampled = random.sample(range(len(files)), 50)
    expected = load_detector(detector).logits([files[at] for at in sampled])
    np.testing.assert_allclose([rows[at]["logit"] for at in sampled], expected, atol=1e-5)


def test_training(
    cluster: Any,
    lose_a_node: Callable[[], None],
    tiny: Callable[..., TrainSettings],
    tmp_path: Path,
    ranks: RankPool,
) -> None:
    # Workers of 0.9 CPUs lie on two nodes; the third takes over.
    settings = tiny(num_workers=2, cpus_per_worker=0.9, stage1__epochs=40)
    config, log = tmp_path / "config.yaml", tmp_path / "log.txt"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True)))
    metrics = Path(settings.output) / "metrics.csv"
    process = started(log, "train", "--config", str(config), RAY_ADDRESS=cluster.address)
    wait_until(process, lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 3)
    lose_a_node()
    assert process.wait(400) == 0, log.read_text()[-3000:]
    assert len(metrics.read_text().splitlines()) == 1 + 42
    expected = ranks.run(weights_on_rank, [(settings,)] * 2)[0]
    found = load_detector(Path(settings.output) / "detector").network.state_dict()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
