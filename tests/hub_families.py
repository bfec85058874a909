"""Tiny Hugging Face folders of further architectures, beside those of `hub_folders`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.hub_folders import IMAGENET, TINY, square

LABELS: dict[str, Any] = {"id2label": {0: "human", 1: "ai"}, "label2id": {"human": 0, "ai": 1}}
_BLOCKS = {key: value for key, value in TINY.items() if key != "intermediate_size"}


def save_family(folder: Path, name: str) -> Path:
    """One of FAMILIES, with the classes human and ai."""
    import transformers

    torch.manual_seed(0)
    model, processor = FAMILIES[name](transformers)
    for name_, parameter in model.named_parameters():
        if parameter.ndim > 1:  # as large as keeps a signal alive through many layers
            torch.nn.init.kaiming_normal_(parameter)
            parameter.data *= 0.6 if name == "levit" else 1.0  # whose BatchNorms hold nothing back
        elif name_.endswith("weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        else:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _beit(t: Any) -> Any:
    config = t.BeitConfig(
        image_size=32, patch_size=8, use_relative_position_bias=True, **TINY, **LABELS
    )
    return t.BeitForImageClassification(config), t.BeitImageProcessor(size=square(32))


def _data2vec(t: Any) -> Any:
    config = t.Data2VecVisionConfig(image_size=32, patch_size=8, **TINY, **LABELS)
    return t.Data2VecVisionForImageClassification(config), t.BeitImageProcessor(size=square(32))


def _deit(t: Any) -> Any:
    config = t.DeiTConfig(image_size=32, patch_size=8, **TINY, **LABELS)
    processor = t.DeiTImageProcessor(size=square(36), crop_size=square(32))
    return t.DeiTForImageClassificationWithTeacher(config), processor


def _resnet(t: Any) -> Any:
    config = t.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **LABELS
    )
    processor = t.ConvNextImageProcessor(size={"shortest_edge": 48}, crop_pct=0.9)
    return t.ResNetForImageClassification(config), processor


def _regnet(t: Any) -> Any:
    config = t.RegNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], groups_width=4, **LABELS
    )
    processor = t.ConvNextImageProcessor(size={"shortest_edge": 48})
    return t.RegNetForImageClassification(config), processor


def _efficientnet(t: Any) -> Any:
    config = t.EfficientNetConfig(
        image_size=32, width_coefficient=0.25, depth_coefficient=0.1, hidden_dim=320, **LABELS
    )
    processor = t.EfficientNetImageProcessor(size=square(32), resample=0)
    return t.EfficientNetForImageClassification(config), processor


def _mobilevit(t: Any) -> Any:
    config = t.MobileViTConfig(
        image_size=64,
        hidden_sizes=[8, 12, 16],
        neck_hidden_sizes=[8, 8, 8, 8, 8, 8, 16],
        num_attention_heads=2,
        expand_ratio=2.0,
        **LABELS,
    )
    processor = t.MobileViTImageProcessor(size={"shortest_edge": 72}, crop_size=square(64))
    return t.MobileViTForImageClassification(config), processor


def _mobilenet(t: Any) -> Any:
    config = t.MobileNetV2Config(image_size=32, depth_multiplier=0.25, **LABELS)
    processor = t.MobileNetV2ImageProcessor(size={"shortest_edge": 36}, crop_size=square(32))
    return t.MobileNetV2ForImageClassification(config), processor


def _cvt(t: Any) -> Any:
    config = t.CvtConfig(
        embed_dim=[8, 16, 16],
        num_heads=[1, 2, 2],
        depth=[1, 2, 3],  # its own code counts on that many
        mlp_ratio=[2.0, 2.0, 2.0],
        **LABELS,
    )
    processor = t.ConvNextImageProcessor(size={"shortest_edge": 64}, **IMAGENET)
    return t.CvtForImageClassification(config), processor


def _convnextv2(t: Any) -> Any:
    config = t.ConvNextV2Config(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, **LABELS)
    # From 384 px on the whole image is squeezed.
    processor = t.ConvNextImageProcessor(size={"shortest_edge": 384})
    return t.ConvNextV2ForImageClassification(config), processor


def _swinv2(t: Any) -> Any:
    config = t.Swinv2Config(
        image_size=32,
        patch_size=2,
        embed_dim=8,
        depths=[1, 1],
        num_heads=[1, 2],
        window_size=4,
        **LABELS,
    )
    return t.Swinv2ForImageClassification(config), t.ViTImageProcessor(size=square(32))


def _registers(t: Any) -> Any:
    config = t.Dinov2WithRegistersConfig(
        image_size=28, patch_size=7, num_register_tokens=2, **_BLOCKS, **LABELS
    )
    processor = t.BitImageProcessor(size={"shortest_edge": 32}, crop_size=square(28))
    return t.Dinov2WithRegistersForImageClassification(config), processor


def _pvt(t: Any) -> Any:
    config = t.PvtConfig(
        image_size=64,
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        mlp_ratios=[2, 2, 2, 2],
        num_labels=2,  # its config does not count the labels
        **LABELS,
    )
    return t.PvtForImageClassification(config), t.PvtImageProcessor(size=square(64))


def _levit(t: Any) -> Any:
    config = t.LevitConfig(
        image_size=64,
        hidden_sizes=[16, 24, 32],
        num_attention_heads=[1, 2, 2],
        depths=[1, 1, 1],
        key_dim=[8, 8, 8],
        **LABELS,
    )
    processor = t.LevitImageProcessor(size={"shortest_edge": 64}, crop_size=square(64))
    return t.LevitForImageClassificationWithTeacher(config), processor


def _poolformer(t: Any) -> Any:
    config = t.PoolFormerConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], **LABELS)
    processor = t.PoolFormerImageProcessor(size={"shortest_edge": 64}, crop_size=square(64))
    return t.PoolFormerForImageClassification(config), processor


def _clip(t: Any) -> Any:
    config = t.CLIPConfig(
        vision_config={"image_size": 32, "patch_size": 8, **TINY},
        text_config={**TINY, "vocab_size": 50},
        **LABELS,
    )
    processor = t.CLIPImageProcessor(size={"shortest_edge": 36}, crop_size=square(32))
    return t.CLIPForImageClassification(config), processor


def _segformer(t: Any) -> Any:
    config = t.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], **LABELS
    )
    return t.SegformerForImageClassification(config), t.SegformerImageProcessor(size=square(64))


FAMILIES: dict[str, Callable[[Any], Any]] = {
    "beit": _beit,
    "clip": _clip,
    "convnextv2": _convnextv2,
    "cvt": _cvt,
    "data2vec-vision": _data2vec,
    "deit": _deit,
    "dinov2_with_registers": _registers,
    "efficientnet": _efficientnet,
    "levit": _levit,
    "mobilenet_v2": _mobilenet,
    "mobilevit": _mobilevit,
    "poolformer": _poolformer,
    "pvt": _pvt,
    "regnet": _regnet,
    "resnet": _resnet,
    "segformer": _segformer,
    "swinv2": _swinv2,
}
