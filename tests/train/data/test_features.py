from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from rayapp.models.detector import Detector
from rayapp.models.networks import build_network
from rayapp.train.data.features import feature_items
from rayapp.train.engine import Engine
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings
from rayapp.train.training_job import RankContext

Tiny = Callable[..., TrainSettings]


def test_features_are_the_detector_s_and_are_made_once(
    tiny: Tiny, data: Path, tmp_path: Path
) -> None:
    job, _ = make_job(tiny(feature_cache=str(tmp_path / "kept")))
    network = build_network(job.spec.architecture)
    items = job.stages[1].items
    made = feature_items(str(tmp_path / "kept"), network, job, items, RankContext())
    expected = Detector(network, job.spec).features([data / item.path for item in items[:3]])
    np.testing.assert_allclose(made.features_NC[:3], expected, atol=1e-6)

    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "kept").rglob("*.safetensors")}
    again = feature_items(str(tmp_path / "kept"), network, job, items, RankContext())
    assert torch.equal(again.features_NC, made.features_NC)
    assert files == {p: p.stat().st_mtime_ns for p in (tmp_path / "kept").rglob("*.safetensors")}

    other = build_network(job.spec.architecture)  # other weights: other features
    changed = feature_items(str(tmp_path / "kept"), other, job, items, RankContext())
    assert not torch.equal(changed.features_NC, made.features_NC)


def test_a_probe_trains_a_head_on_them(tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny(
        feature_cache=str(tmp_path / "kept"),
        stage1__epochs=0,
        stage2__epochs=30,
        stage2__learning_rate=0.03,
    )
    engine = Engine(make_job(settings)[0])
    before = {k: v.clone() for k, v in engine.network.encoder.state_dict().items()}
    figures = list(engine.epochs())
    assert figures[-1]["loss"] < 0.75 * figures[0]["loss"]
    for name, tensor in engine.network.encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_an_image_that_cannot_be_read_is_named(tiny: Tiny, data: Path, tmp_path: Path) -> None:
    job, _ = make_job(tiny(feature_cache=str(tmp_path / "kept")))
    items = [job.stages[1].items[0], type(job.stages[1].items[0])("no", "no.png", (1, 0, 0, 0), 1)]
    network = build_network(job.spec.architecture)
    made = feature_items(str(tmp_path / "kept"), network, job, items, RankContext())
    batch = made.batch([(0, 1), (0, 0)])
    assert len(batch) == 1
    assert list(batch.failures) == ["no"]


def test_the_pass_says_how_far_it_is(tiny: Tiny, tmp_path: Path) -> None:
    job, _ = make_job(tiny(feature_cache=str(tmp_path / "kept")))
    network = build_network(job.spec.architecture)
    items = job.stages[1].items
    said: list[str] = []
    place = RankContext(tell=said.append)
    feature_items(str(tmp_path / "kept"), network, job, items, place)
    assert said[0].startswith(f"features: 1 of {len(items)} images")
    assert said[-1].startswith(f"features: {len(items)} of {len(items)} images")
    feature_items(str(tmp_path / "kept"), network, job, items, place)
    assert len(said) == len(items)  # what is kept is not counted again
