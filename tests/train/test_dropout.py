import torch
from torch import nn

from rayapp.train.dropout import StepSeed, share_dropout


def _layer(offset: int, num_items: int, seed: int = 3) -> nn.Module:
    model = nn.Sequential(nn.Dropout(0.4))
    share_dropout(model, StepSeed(seed, offset, num_items))
    return model


def test_parts_of_a_batch_drop_what_the_whole_batch_drops() -> None:
    images = torch.ones(10, 50)
    whole = _layer(0, 10)(images)
    parts = [_layer(0, 10)(images[:3]), _layer(3, 10)(images[3:])]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, _layer(0, 10, seed=4)(images))


def test_drops_the_share_asked_for_and_keeps_the_mean() -> None:
    output = _layer(0, 400)(torch.ones(400, 100))
    assert abs(float((output == 0).float().mean()) - 0.4) < 0.01
    assert abs(float(output.mean()) - 1) < 0.02


def test_two_layers_drop_differently_and_evaluation_drops_nothing() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    share_dropout(model, StepSeed(3, 0, 8))
    images = torch.ones(8, 100)
    assert not torch.equal(model[0](images), model[1](images))
    assert torch.equal(model.eval()(images), images)
