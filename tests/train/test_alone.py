from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from rayapp.errors import UserError
from rayapp.models.folder import load_detector
from rayapp.train.alone import train_alone
from rayapp.train.engine import Engine
from rayapp.train.plan import plan
from rayapp.train.settings import TrainSettings

Tiny = Callable[..., TrainSettings]


class Cut(Exception):
    """What a search raises in a trial that it stops."""


def test_a_call_that_is_cut_goes_on_and_ends_with_the_engine_s_weights(
    tiny: Tiny, data: Path
) -> None:
    settings = tiny(num_workers=0, stage2__epochs=1, validation=[str(data / "all.txt")])
    told: list[Mapping[str, Any]] = []

    def on_epoch(figures: Mapping[str, Any]) -> None:
        told.append(figures)
        if len(told) == 1:
            raise Cut

    with pytest.raises(Cut):
        train_alone(settings, on_epoch)
    run = train_alone(settings.model_copy(update={"num_workers": 2}), on_epoch)  # elsewhere

    assert run.state == "resumed"
    assert [(f["stage"], f["epoch"]) for f in told] == [("stage1", 1), ("stage1", 2), ("stage2", 1)]
    engine = Engine(plan(settings)[0])
    list(engine.epochs())
    detector = load_detector(Path(settings.output) / run.results["detector"])
    for name, tensor in engine.network.state_dict().items():
        assert torch.equal(tensor, detector.network.state_dict()[name]), name
    assert run.results["validation_loss"] == told[-1]["validation_loss"]
    assert not (Path(settings.output) / "state.pt").exists()
    assert train_alone(settings, on_epoch).state == "done"
    assert len(told) == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(tiny: Tiny) -> None:
    with pytest.raises(UserError, match="gpu: there is none on this machine"):
        train_alone(tiny(num_workers=0, gpu=True))
