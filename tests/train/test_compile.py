"""torch.compile through the whole loop; it needs a C++ compiler and half a minute."""

import shutil
from collections.abc import Callable

import pytest
import torch

from rayapp.train.engine import Engine
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings
from tests.ddp import RankPool
from tests.train.ranks import weights_on_rank

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler"),
]

Tiny = Callable[..., TrainSettings]
_SGD = {"stage1__optimizer": "sgd", "stage2__optimizer": "sgd"}


def _trained(settings: TrainSettings) -> Engine:
    engine = Engine(make_job(settings)[0])
    list(engine.epochs())
    return engine


@pytest.mark.parametrize("loss", ["selfcon", "ce"])
def test_compiled_training_is_the_eager_one(tiny: Tiny, loss: str) -> None:
    """Both stages, with batches of two sizes and dropout: weights to rounding."""
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    settings = tiny(loss=loss, **_SGD)
    eager = _trained(settings).network.state_dict()
    compiled = Engine(make_job(settings.model_copy(update={"compile": True}))[0])
    graphs = [counters["stats"]["unique_graphs"] for _epoch in compiled.epochs()]
    for name, tensor in compiled.network.state_dict().items():
        torch.testing.assert_close(tensor, eager[name], atol=1e-4, rtol=1e-4, msg=name)
    first, second = graphs[:2], graphs[2:]
    assert 0 < first[0] == first[1] < second[0] == second[1], "compiled in the first epochs only"
    torch._dynamo.reset()


def test_compiled_training_on_two_ranks_is_the_eager_one(tiny: Tiny, ranks: RankPool) -> None:
    settings = tiny(**_SGD)
    alone = _trained(settings).network.state_dict()
    compiled = settings.model_copy(update={"compile": True})
    for weights in ranks.run(weights_on_rank, [(compiled,)] * 2, timeout_s=500):
        for name, tensor in alone.items():
            torch.testing.assert_close(weights[name], tensor, atol=1e-4, rtol=1e-4, msg=name)


def test_a_backbone_of_timm_compiles(tiny: Tiny) -> None:
    """The recipes' kind: channels last, bf16, taps by forward_intermediates."""
    settings = tiny(
        architecture={"backbone": "test_resnet", "tap_depths": [0.5], "head": {"hidden": 8}},
        precision="bf16",
        channels_last=True,
        stage1__epochs=1,
        stage2__epochs=1,
    )
    losses = [
        [figures["loss"] for figures in _trained(one).history]
        for one in (settings, settings.model_copy(update={"compile": True}))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
