import copy
import subprocess
import sys

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayapp.config.errors import UserError
from rayapp.models.backbones import create_backbone
from rayapp.models.distributed.batchnorm import checkpoint_activations, convert_sync_batchnorm
from rayapp.models.encoder import Encoder, ProjectionHeads
from rayapp.models.losses import multilabel_selfcon_loss

LABELS = torch.tensor([[0, 0, -1, 0], [1, 0, 0, 0], [1, 0, 1, 0], [0, 0, -1, 0], [1, 0, 0, 0]])
SHARDS = {1: [[0, 1, 2, 3, 4]], 2: [[0, 3], [1, 2, 4]], 3: [[1, 2], [0, 3], [4]]}


def trained() -> nn.Sequential:
    torch.manual_seed(5)
    encoder = Encoder(
        create_backbone("highpass-small", tap_depths=(0.5,), options={"width": 4, "depth": 2})
    )
    # timm's BatchNorm with its own activation, and the one of vectors.
    act = timm.layers.BatchNormAct2d(3, act_layer=nn.SiLU)
    heads = ProjectionHeads(encoder.num_features, 2, 6)
    return nn.Sequential(act, encoder, nn.BatchNorm1d(2), heads).double()


def images() -> Tensor:
    return torch.rand(5, 3, 12, 12, generator=torch.Generator().manual_seed(6)).double()


def step(model: nn.Module, rows: list[int]) -> dict[str, Tensor]:
    """Gradients and buffers after one training step on some rows of the batch."""
    features = model(images()[rows])
    multilabel_selfcon_loss(features, LABELS[rows]).backward()
    plain = getattr(model, "module", model)
    gradients = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
    return {**gradients, **dict(plain.named_buffers())}


def rank_step(rows: list[int], synced: bool) -> dict[str, Tensor]:
    model = trained()
    if synced:
        model = convert_sync_batchnorm(model, "cpu")
    return step(nn.parallel.DistributedDataParallel(model), rows)


def largest_difference(ranks, num_ranks: int, synced: bool) -> float:
    expected = step(trained(), [0, 1, 2, 3, 4])
    answers = ranks.run(rank_step, [(rows, synced) for rows in SHARDS[num_ranks]])
    return max(
        float((answer[name] - expected[name]).abs().max())
        for answer in answers
        for name in expected
    )


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_synced_gradient_and_statistics_are_those_of_one_process(ranks, num_ranks: int) -> None:
    assert largest_difference(ranks, num_ranks, synced=True) <= 1e-12


def test_statistics_of_each_rank_alone_give_another_gradient(ranks) -> None:
    assert largest_difference(ranks, 2, synced=False) > 1e-3
    assert largest_difference(ranks, 1, synced=False) <= 1e-12


@pytest.mark.parametrize("momentum", [0.1, None])
def test_synced_form_without_ranks_equals_torch(momentum: float | None) -> None:
    plain = nn.BatchNorm2d(3, momentum=momentum)
    nn.init.normal_(plain.weight)
    synced = convert_sync_batchnorm(copy.deepcopy(plain), "cpu")
    assert type(synced) is not nn.BatchNorm2d
    for seed in range(3):
        torch.manual_seed(seed)
        batch = torch.randn(4, 3, 5, 5) * 3 + 100
        torch.testing.assert_close(synced(batch), plain(batch), rtol=1e-4, atol=1e-4)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(synced.state_dict()[name], value, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(synced.eval()(batch), plain.eval()(batch))


def test_unknown_batchnorm_is_refused() -> None:
    with pytest.raises(UserError, match="BatchNorm3d"):
        convert_sync_batchnorm(nn.Sequential(nn.BatchNorm3d(2)), "cpu")


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_checkpointed_equals_plain_with_running_statistics(name: str) -> None:
    torch.manual_seed(7)
    options = {"drop_path_rate": 0.0}
    plain = create_backbone(name, tap_depths=(0.5,), options=options).train()
    checkpointed = copy.deepcopy(plain)
    uncorrected = copy.deepcopy(plain)
    batch = torch.rand(4, 3, 32, 32)
    random_state = torch.get_rng_state()
    checkpoint_activations(checkpointed, batch[:2])
    assert torch.equal(torch.get_rng_state(), random_state)
    uncorrected.model.set_grad_checkpointing(True)
    results = []
    for backbone in (plain, checkpointed, uncorrected):
        for _ in range(2):
            maps, features = backbone(batch)
            F.normalize(features)[:, 0].sum().add(maps[0].mean()).backward()
        gradients = torch.cat([p.grad.flatten() for p in backbone.parameters()])
        running = [b.flatten() for n, b in backbone.named_buffers() if "running" in n]
        results.append((gradients, torch.cat(running)))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-6, atol=1e-6)
    assert (results[2][1] - results[0][1]).abs().max() > 1e-3


def test_backbone_without_checkpointing_is_refused() -> None:
    with pytest.raises(UserError, match="no activation checkpointing"):
        checkpoint_activations(create_backbone("highpass-small"), torch.rand(2, 3, 16, 16))


def test_training_a_small_network_imports_no_timm() -> None:
    code = "import sys, rayapp.jobs.train_workers; sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
