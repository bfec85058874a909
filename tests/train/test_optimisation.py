import pytest
import torch
from torch import nn

from rayapp.train.optimisation import create_optimizer, learning_rate
from rayapp.train.settings import StageSettings


def _rates(num_steps: int, warmup: int) -> list[float]:
    return [learning_rate(step, num_steps, warmup, 2.0) for step in range(num_steps)]


def test_warms_up_in_even_parts_then_falls_by_half_a_cosine() -> None:
    rates = _rates(100, 10)
    assert rates[:10] == pytest.approx([0.2 * n for n in range(1, 11)])
    assert rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert 0 < rates[-1] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(("num_steps", "warmup"), [(1, 0), (1, 5), (3, 3), (5, 0)])
def test_is_right_for_any_number_of_steps(num_steps: int, warmup: int) -> None:
    rates = _rates(num_steps, warmup)
    assert all(0 < rate <= 2.0 for rate in rates)
    assert max(rates) == rates[min(warmup, num_steps) - 1 if warmup >= num_steps else warmup] or (
        warmup >= num_steps
    )


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_optimizers_leave_frozen_weights_alone(kind: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    settings = StageSettings(
        perturbation="demo-train", epochs=1, batch_size=8, learning_rate=0.1, optimizer=kind
    )
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = create_optimizer(model, settings)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert changed == [False, False, True, True]
