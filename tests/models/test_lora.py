import pytest
import torch
from torch import nn

from rayapp.config.errors import UserError
from rayapp.models.backbones import create_backbone
from rayapp.models.detector_spec import Architecture, HeadSettings, LoraSettings
from rayapp.models.encoder import Network
from rayapp.models.lora import add_lora, merged, train_lora_only
from rayapp.models.networks import build_network
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


SWIN = {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 8, "num_heads": (1, 2)}
STAGED: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "swin_tiny_patch4_window7_224": (SWIN | {"depths": (2, 1)}, ("attn.qkv", "attn.proj")),
    "swinv2_tiny_window8_256": (SWIN | {"depths": (2, 1)}, ("attn.qkv", "mlp.fc2")),
    "convnext_atto": (
        {"depths": (2, 1, 1, 1), "dims": (8, 8, 16, 16), "conv_mlp": False},
        ("mlp.fc1", "mlp.fc2"),
    ),
}


def _staged(backbone: str) -> Network:
    torch.manual_seed(0)
    head = HeadSettings(hidden=0, norm="none")
    options, _ = STAGED[backbone]
    return stir(build_network(Architecture(backbone=backbone, options=options, head=head)).eval())


@pytest.mark.parametrize("backbone", STAGED)
def test_networks_of_stages_are_adapted_and_merged_as_well(backbone: str) -> None:
    plain, adapted = _staged(backbone), _staged(backbone)
    lora = LoraSettings(rank=2, targets=STAGED[backbone][1], layers=(0, -1))
    names = add_lora(adapted.encoder.backbone, lora)
    assert len(names) == 4  # two maps of the first block and of the last, in whatever stage
    torch.testing.assert_close(adapted(IMAGES), plain(IMAGES), atol=1e-6, rtol=1e-6)
    train_lora_only(adapted.encoder.backbone)
    adapted(IMAGES).square().sum().backward()
    trained = {n for n, p in adapted.encoder.named_parameters() if p.grad is not None}
    assert trained
    assert all("lora" in name for name in trained)
    stir(adapted)
    whole = merged(adapted)
    assert set(whole.state_dict()) == set(plain.state_dict())
    torch.testing.assert_close(whole(IMAGES), adapted(IMAGES), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(whole(IMAGES), plain(IMAGES), atol=1e-4)


def test_blocks_are_counted_through_all_stages() -> None:
    targets = STAGED["convnext_atto"][1]
    for layers, block in (((1,), "stages.0.blocks.1"), ((-2,), "stages.2.blocks.0")):
        network = _staged("convnext_atto")
        lora = LoraSettings(rank=1, layers=layers, targets=targets)
        assert add_lora(network.encoder.backbone, lora) == [f"{block}.{t}.weight" for t in targets]
    with pytest.raises(UserError, match=r"5 is not among the 5 blocks"):
        add_lora(network.encoder.backbone, LoraSettings(layers=(5,), targets=targets))
    with pytest.raises(UserError, match=r"no 'attn.qkv' in a block; it has mlp.fc1, mlp.fc2"):
        add_lora(_staged("convnext_atto").encoder.backbone, LORA)


@pytest.mark.parametrize(
    ("backbone", "options", "words"),
    [
        ("highpass-small", {"width": 4, "depth": 3}, "no blocks of linear maps"),
        ("resnet18", {}, "no blocks of linear maps"),
        ("efficientnet_b0", {}, "no blocks of linear maps"),
        ("levit_128s", {}, "BatchNorm, whose averages training would change"),
    ],
)
def test_other_networks_are_refused(backbone: str, options: dict, words: str) -> None:
    lora = LoraSettings(targets=("linear",))
    with pytest.raises(UserError, match=words) as refusal:
        add_lora(create_backbone(backbone, options=options), lora)
    assert "\n" not in str(refusal.value)


def test_a_network_without_is_left_alone() -> None:
    network = made()
    assert merged(network) is network
    train_lora_only(network.encoder.backbone)
    assert all(p.requires_grad for p in network.parameters())
    assert isinstance(network.encoder.backbone.model, nn.Module)
