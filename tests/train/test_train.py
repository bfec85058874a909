import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rayapp.config.errors import UserError
from rayapp.jobs.train import train
from rayapp.models.folder import load_detector
from rayapp.train.engine import Engine
from rayapp.train.loop import train_alone
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings

pytestmark = pytest.mark.ray

Tiny = Callable[..., TrainSettings]


def test_a_run_on_ray_is_the_engine_s_run_and_is_done_once(tiny: Tiny, data: Path) -> None:
    settings = tiny(cpus=2)
    run = train(settings)
    output = Path(settings.output)

    assert run.counts == {"stage1 items": 44, "stage2 items": 44, "unreadable": 0}
    detector = load_detector(output / "detector")
    assert detector.hash() == run.results["detector_hash"]
    assert detector.logits([data / "00.png", data / "01.png"]).shape == (2,)
    engine = Engine(make_job(settings)[0])
    list(engine.epochs())
    for name, tensor in engine.network.state_dict().items():
        assert torch.equal(tensor, detector.network.state_dict()[name]), name

    lines = list(csv.DictReader((output / "metrics.csv").read_text().splitlines()))
    assert [line["stage"] for line in lines] == ["stage1"] * 2 + ["stage2"] * 2
    assert float(lines[-1]["loss"]) == engine.history[-1]["loss"]
    assert len(list((output / "tensorboard").iterdir())) == 4
    assert not (output / "checkpoints").exists()
    provenance = json.loads((output / "detector" / "detector.json").read_text())["provenance"]
    assert provenance["settings"]["seed"] == 42

    assert run.state == "new"
    assert train(settings).state == "done"
    with pytest.raises(UserError, match="setting seed was 42, now 1"):
        train(settings.model_copy(update={"seed": 1}))


def test_ray_goes_on_where_one_process_was_cut_off(tiny: Tiny) -> None:
    class Cut(Exception):
        pass

    def cut(figures: object) -> None:
        raise Cut

    settings = tiny(cpus=2)
    with pytest.raises(Cut):
        train_alone(settings, cut)
    output = Path(settings.output)
    kept = (output / "tensorboard/000001.tfevents").read_bytes()
    run = train(settings)
    assert run.state == "resumed"
    assert (output / "tensorboard/000001.tfevents").read_bytes() == kept
    assert not (output / "state.pt").exists()
    engine = Engine(make_job(settings)[0])
    list(engine.epochs())
    for name, tensor in load_detector(output / "detector").network.state_dict().items():
        assert torch.equal(tensor, engine.network.state_dict()[name]), name
