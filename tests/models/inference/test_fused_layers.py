import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rayapp.models.detector_spec import Architecture, HeadSettings
from rayapp.models.inference.fused_layers import FusedConv, _rounded, fuse
from rayapp.models.inference.scoring_network import for_scoring
from rayapp.models.networks import build_network, build_scorer
from tests.models.reference import unsettle


def images(size: int = 64, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("backbone", "convolutions"),
    [("highpass-small", 4), ("resnet18", 20), ("regnety_002", 70), ("convnext_atto", 40)],
)
def test_fused_networks_give_the_same_logits(backbone: str, convolutions: int) -> None:
    torch.manual_seed(0)
    network = build_network(Architecture(backbone=backbone, head=HeadSettings(hidden=8)))
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            unsettle(module)
    network.eval()
    with torch.inference_mode():
        wanted = network(images())
        ready = for_scoring(network, bf16=False)
        exact = ready(images())
        rounded = for_scoring(network, bf16=True)(images())
    assert sum(isinstance(m, FusedConv) for m in ready.modules()) == convolutions
    scale = wanted.abs().max()
    assert (exact - wanted).abs().max() <= 1e-4 * scale
    assert 0 < (rounded - wanted).abs().max() <= 0.02
    assert exact.dtype == rounded.dtype == torch.float32


def test_nothing_is_left_to_fuse_in_a_resnet() -> None:
    network = build_network(Architecture(backbone="resnet18")).eval()
    ready = for_scoring(network, bf16=False)
    kinds = [type(module) for module in ready.maps.modules()]
    assert nn.BatchNorm2d not in kinds
    called = [n for n in ready.maps.graph.nodes if n.op in ("call_function", "call_method")]
    assert called == []  # additions and ReLUs are inside the convolutions


def test_a_residual_that_is_used_again_is_not_overwritten() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            kept = torch.relu(self.first(x))
            return torch.relu(self.second(kept) + kept) - kept  # `kept` once more at the end

    module = unsettle(Twice())
    with torch.inference_mode():
        torch.testing.assert_close(
            fuse(copy.deepcopy(module), torch.float32)(images()), module(images())
        )


def test_a_layer_called_twice_is_fused_each_time_as_it_is_used() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.conv(torch.relu(self.norm(self.conv(x))))  # the second has no norm

    module = unsettle(Shared())
    with torch.inference_mode():
        torch.testing.assert_close(
            fuse(copy.deepcopy(module), torch.float32)(images()), module(images())
        )


def test_pixels_meet_the_first_convolution_in_float32() -> None:
    network = build_network(Architecture(backbone="resnet18")).eval()
    ready = for_scoring(network, bf16=True)
    kinds = [m.dtype for m in ready.modules() if isinstance(m, FusedConv)]
    assert kinds.count(torch.float32) == 1
    assert kinds[0] == torch.float32


def test_what_cannot_be_traced_scores_all_the_same() -> None:
    architecture = Architecture(backbone="vit_tiny_patch16_224", head=HeadSettings(hidden=8))
    network = unsettle(build_network(architecture))
    with torch.inference_mode():
        wanted = network(images(224, 1))
        torch.testing.assert_close(for_scoring(network, bf16=False)(images(224, 1)), wanted)
        rounded = for_scoring(network, bf16=True)(images(224, 1))
    assert (rounded - wanted).abs().max() <= 0.1 * wanted.abs().max()


@pytest.mark.parametrize(
    "backbone", ["convnext_atto_ols", "convnext_femto", "vit_small_patch16_dinov3.lvd1689m"]
)
def test_what_is_no_convolution_is_rounded_too(backbone: str) -> None:
    """Linear layers amid fused convolutions, and attention behind a single one."""
    options: dict[str, bool] = {"conv_mlp": False} if backbone.startswith("convnext") else {}
    architecture = Architecture(
        backbone=backbone, options=options, head=HeadSettings(norm="none", hidden=0)
    )
    torch.manual_seed(0)
    network = build_network(architecture).eval()
    kinds: list[torch.dtype] = []
    with torch.inference_mode():
        wanted = network(images())
        ready = for_scoring(network, bf16=True)
        for module in ready.maps.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(lambda _, __, output: kinds.append(output.dtype))
        rounded = ready(images())
    assert len(kinds) > 4
    assert set(kinds) == {torch.bfloat16}
    assert 0 < (rounded - wanted).abs().max() <= 0.05 * wanted.abs().max()


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3.lvd1689m"])
def test_pixels_meet_the_patches_of_a_transformer_in_float32(backbone: str) -> None:
    network = build_network(Architecture(backbone=backbone)).eval()
    ready = for_scoring(network, bf16=True)
    assert [m.dtype for m in ready.modules() if isinstance(m, FusedConv)] == [torch.float32]
    kept = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(kept) == 1  # of the network itself nothing is taken away


def test_an_average_of_networks_is_fused_one_by_one() -> None:
    architecture = Architecture(
        backbone="highpass-small", options={"width": 8, "depth": 2}, num_networks=2
    )
    pair = unsettle(build_scorer(architecture))
    with torch.inference_mode():
        alone = torch.stack([net(images()) for net in pair.networks])
        torch.testing.assert_close(pair(images()), alone.mean(0))
        torch.testing.assert_close(for_scoring(pair, bf16=False)(images()), alone.mean(0))
    assert (alone[0] - alone[1]).abs().max() > 1e-4


def test_rounded_weights_keep_the_sum_of_each_filter() -> None:
    weight = torch.randn(8, 64, 3, 3, generator=torch.Generator().manual_seed(2))
    rounded = _rounded(weight, torch.bfloat16)
    assert (rounded.dtype, rounded.shape) == (torch.bfloat16, weight.shape)
    step = 2.0 ** (weight.abs().log2().floor() - 7)  # bf16 keeps 8 digits
    near = (rounded.float() - weight).abs() <= 1.5 * step.clamp(min=2**-7)
    assert near.all()
    ours = (rounded.float() - weight).sum((1, 2, 3)).abs()
    plain = (weight.bfloat16().float() - weight).sum((1, 2, 3)).abs()
    assert ours.max() < 0.02
    assert ours.mean() < plain.mean() / 3
    assert _rounded(weight, torch.float32) is weight
