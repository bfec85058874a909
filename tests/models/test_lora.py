import pytest
import torch
from torch import nn

from rayapp.config.errors import UserError
from rayapp.models.backbones import create_backbone
from rayapp.models.detector_spec import LoraSettings
from rayapp.models.encoder import Network
from rayapp.models.lora import add_lora, merged, train_lora_only
from tests.models.vits import FAMILIES, IMAGES, PLAIN, made, stir

LORA = LoraSettings(rank=2, alpha=4)


def _adapted(backbone: str, lora: LoraSettings = LORA) -> Network:
    network = made(backbone)
    add_lora(network.encoder.backbone, lora)
    return network


@pytest.mark.parametrize("backbone", FAMILIES)
def test_every_vit_computes_as_before_then_learns_and_is_merged(backbone: str) -> None:
    plain, adapted = made(backbone), _adapted(backbone)
    torch.testing.assert_close(adapted(IMAGES), plain(IMAGES), atol=1e-6, rtol=1e-6)
    stir(adapted)
    whole = merged(adapted)
    assert {k: v.shape for k, v in whole.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
    assert {type(m) for m in whole.modules()} == {type(m) for m in plain.modules()}
    assert not torch.allclose(whole(IMAGES), plain(IMAGES), atol=1e-3)
    torch.testing.assert_close(whole(IMAGES), adapted(IMAGES), atol=1e-5, rtol=1e-5)
    assert any("lora" in name for name in adapted.state_dict())  # the copy alone is merged


@pytest.mark.parametrize("backbone", FAMILIES)
def test_low_rank_maps_alone_learn(backbone: str) -> None:
    network = _adapted(backbone)
    train_lora_only(network.encoder.backbone)
    before = {k: v.clone() for k, v in network.encoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 10.0)
    for _ in range(2):  # `down` has a gradient once `up` is not zero
        optimizer.zero_grad()
        network(IMAGES).square().sum().backward()
        optimizer.step()
    after = network.encoder.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {name for name in before if "lora" in name}
    assert len(changed) == 2 * 2 * 3  # down and up of qkv and proj of three blocks


def test_the_product_is_what_the_paper_says() -> None:
    network = _adapted(PLAIN)
    stir(network)
    linear = network.encoder.backbone.model.get_submodule("blocks.1.attn.qkv")
    tokens = torch.rand(2, 7, 16)
    delta = 4 / 2 * linear.lora_up @ linear.lora_down
    expected = tokens @ (linear.weight + delta).T + linear.bias
    torch.testing.assert_close(linear(tokens), expected)


def test_layers_and_targets_are_chosen() -> None:
    network = made()
    chosen = LoraSettings(rank=1, layers=(0, -1), targets=("mlp.fc1", "attn.proj"))
    names = add_lora(network.encoder.backbone, chosen)
    assert names == [f"blocks.{b}.{t}.weight" for b in (0, 2) for t in ("attn.proj", "mlp.fc1")]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": [3]}, r"lora.layers: 3 is not among the 3 blocks"),
        ({"layers": [-4]}, r"lora.layers: -4 is not"),
        ({"targets": ["attn.kqv"]}, r"no 'attn.kqv' in a block; it has attn.proj, attn.qkv, mlp"),
        ({"targets": ["mlp.fc1", "norm1"]}, r"no 'norm1' in a block"),
    ],
)
def test_what_is_not_there_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        add_lora(made().encoder.backbone, LoraSettings.model_validate(settings))


def test_other_networks_are_refused() -> None:
    with pytest.raises(UserError, match="wants a ViT"):
        add_lora(create_backbone("highpass-small", options={"width": 4, "depth": 3}), LORA)


def test_a_network_without_is_left_alone() -> None:
    network = made()
    assert merged(network) is network
    train_lora_only(network.encoder.backbone)
    assert all(p.requires_grad for p in network.parameters())
    assert isinstance(network.encoder.backbone.model, nn.Module)
