import io
from collections.abc import Callable
from typing import Any

import pytest
import torch

from rayapp.config.errors import JobFailed, UserError
from rayapp.train.engine import Engine
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings
from tests.ddp import RankPool
from tests.train.ranks import weights_on_rank

Tiny = Callable[..., TrainSettings]


def _run(engine: Engine, num_epochs: int = 99) -> Engine:
    for _, _figures in zip(range(num_epochs), engine.epochs(), strict=False):
        pass
    return engine


def _weights(engine: Engine) -> dict[str, torch.Tensor]:
    return engine.network.state_dict()


def _saved_and_loaded(engine: Engine) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(engine.state(), buffer)
    state: dict[str, Any] = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    return state


@pytest.mark.parametrize("loss", ["selfcon", "supcon", "ce"])
def test_every_loss_learns_to_tell_the_two_kinds_apart(tiny: Tiny, loss: str) -> None:
    engine = _run(Engine(make_job(tiny(loss=loss, stage1__epochs=4, stage2__epochs=8))[0]))
    assert [f["stage"] for f in engine.history] == ["stage1"] * 4 + ["stage2"] * 8
    last = engine.history[-1]
    assert last["loss"] < 0.55
    assert last["images"] == 12 * 44
    assert engine.done


@pytest.mark.parametrize("num_epochs", [1, 3])
def test_going_on_from_a_state_gives_the_same_weights_to_the_bit(
    tiny: Tiny, num_epochs: int
) -> None:
    job, _ = make_job(tiny())
    whole = _run(Engine(job))
    state = _saved_and_loaded(_run(Engine(job), num_epochs))
    resumed = Engine(job)
    resumed.load(state)
    torch.manual_seed(12345)  # whatever else drew random numbers meanwhile
    _run(resumed)
    for name, tensor in _weights(whole).items():
        assert torch.equal(tensor, _weights(resumed)[name]), name
    losses = [[f["loss"] for f in e.history] for e in (whole, resumed)]
    assert losses[0] == losses[1]


def test_an_epoch_that_is_cut_goes_on_where_it_stopped(tiny: Tiny) -> None:
    job, _ = make_job(tiny())
    whole = _run(Engine(job))
    cut = Engine(job)
    next(cut.epochs(lambda engine: engine.step_at == 2))
    assert cut.step_at == 2
    resumed = Engine(job)
    resumed.load(_saved_and_loaded(cut))
    _run(resumed)
    for name, tensor in _weights(whole).items():
        assert torch.equal(tensor, _weights(resumed)[name]), name


def test_another_seed_gives_other_weights(tiny: Tiny) -> None:
    one, other = (_run(Engine(make_job(tiny(seed=seed))[0]), 1) for seed in (1, 2))
    assert any(not torch.equal(t, _weights(other)[n]) for n, t in _weights(one).items())


def _equal_on_ranks(settings: TrainSettings, ranks: RankPool, num_ranks: int) -> None:
    # 5 epochs of 4 steps: 20 steps of stage 1, then stage 2 with dropout.
    alone = _weights(_run(Engine(make_job(settings)[0])))
    for weights in ranks.run(weights_on_rank, [(settings,)] * num_ranks):
        for name, tensor in alone.items():
            if tensor.is_floating_point():
                torch.testing.assert_close(weights[name], tensor, atol=1e-5, rtol=1e-5)


_TWENTY_STEPS = {"stage1__epochs": 5, "stage1__optimizer": "sgd", "stage2__optimizer": "sgd"}


def test_two_ranks_give_the_weights_of_one(tiny: Tiny, ranks: RankPool) -> None:
    _equal_on_ranks(tiny(**_TWENTY_STEPS, stage2__epochs=1), ranks, 2)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["selfcon", "supcon", "ce"])
@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_any_number_of_ranks_gives_the_same_weights(
    tiny: Tiny, ranks: RankPool, loss: str, num_ranks: int
) -> None:
    _equal_on_ranks(tiny(loss=loss, **_TWENTY_STEPS), ranks, num_ranks)


def test_a_loss_that_is_not_finite_ends_the_training(tiny: Tiny) -> None:
    settings = tiny(stage1__learning_rate=1e30, stage1__optimizer="sgd", loss="ce")
    with pytest.raises(JobFailed, match=r"stage1: the loss is .* lower learning_rate"):
        _run(Engine(make_job(settings)[0]))


def test_bfloat16_and_channels_last_train_too(tiny: Tiny) -> None:
    settings = tiny(precision="bf16", channels_last=True, stage1__epochs=1, stage2__epochs=1)
    plain = tiny(stage1__epochs=1, stage2__epochs=1)
    losses = [[f["loss"] for f in Engine(make_job(s)[0]).epochs()] for s in (settings, plain)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_reading_in_processes_of_their_own_changes_nothing(tiny: Tiny) -> None:
    one, other = (
        _run(Engine(make_job(tiny(loader_processes=n, stage2__epochs=1))[0]), 1) for n in (0, 2)
    )
    for name, tensor in _weights(one).items():
        assert torch.equal(tensor, _weights(other)[name]), name


def test_a_backbone_without_checkpointing_says_so(tiny: Tiny) -> None:
    with pytest.raises(UserError, match="has no activation checkpointing"):
        Engine(make_job(tiny(checkpoint_activations=True))[0])
