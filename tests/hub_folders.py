"""Tiny Hugging Face folders of five architectures: random weights, real files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
ARCHITECTURES = ("vit", "swin", "siglip", "convnext", "dinov2")


def save_folder(folder: Path, name: str, labels: tuple[str, ...] = ("human", "ai")) -> Path:
    """One of ARCHITECTURES with these classes."""
    import transformers

    with_labels = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    torch.manual_seed(0)
    model, processor = _MADE[name](transformers, with_labels)
    for parameter in model.parameters():  # else the norms do nothing, and the head is nought
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _vit(t: Any, labels: dict[str, Any]) -> Any:
    config = t.ViTConfig(image_size=32, patch_size=8, **TINY, **labels)
    return t.ViTForImageClassification(config), t.ViTImageProcessor(size=square(32))


def _swin(t: Any, labels: dict[str, Any]) -> Any:
    config = t.SwinConfig(
        image_size=32,
        patch_size=2,
        embed_dim=8,
        depths=[1, 1],
        num_heads=[1, 2],
        window_size=4,
        **labels,
    )
    processor = t.ViTImageProcessor(size=square(32), resample=3, **IMAGENET)
    return t.SwinForImageClassification(config), processor


def _siglip(t: Any, labels: dict[str, Any]) -> Any:
    config = t.SiglipConfig(
        vision_config={"image_size": 32, "patch_size": 8, **TINY},
        text_config={**TINY, "vocab_size": 50},
        **labels,
    )
    return t.SiglipForImageClassification(config), t.SiglipImageProcessor(size=square(32))


def _convnext(t: Any, labels: dict[str, Any]) -> Any:
    config = t.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, **labels)
    processor = t.ConvNextImageProcessor(size={"shortest_edge": 48})
    return t.ConvNextForImageClassification(config), processor


def _dinov2(t: Any, labels: dict[str, Any]) -> Any:
    tiny = {key: value for key, value in TINY.items() if key != "intermediate_size"}
    config = t.Dinov2Config(image_size=28, patch_size=7, **tiny, **labels)
    processor = t.BitImageProcessor(size={"shortest_edge": 32}, crop_size=square(28))
    return t.Dinov2ForImageClassification(config), processor


def square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


_MADE: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "vit": _vit,
    "swin": _swin,
    "siglip": _siglip,
    "convnext": _convnext,
    "dinov2": _dinov2,
}


def noise_images() -> list[Image.Image]:
    """Images wide, high, as large as a view, and smaller than one."""
    rng = np.random.default_rng(0)
    sizes = ((50, 70), (300, 200), (33, 32), (20, 24))
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def pipeline_probability(
    folder: Path, images: list[Image.Image], synthetic: tuple[str, ...] = ("ai",)
) -> np.ndarray:
    """What transformers' own pipeline says, its probabilities of these classes added up."""
    from transformers import pipeline

    pipe = pipeline("image-classification", model=str(folder), top_k=100)
    return np.array(
        [sum(one["score"] for one in of if one["label"] in synthetic) for of in pipe(images)]
    )
