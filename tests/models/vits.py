"""Tiny ViTs of timm's: 32 px, patches of 8 px, so 16 of them."""

from typing import Any

import torch
from torch import Tensor, nn

from rayapp.models.detector_spec import Architecture
from rayapp.models.encoder import Network
from rayapp.models.networks import build_network

OPTIONS = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
PLAIN = "vit_tiny_patch16_224"
FAMILIES = (
    PLAIN,
    "vit_base_patch16_clip_quickgelu_224",
    "vit_base_patch16_siglip_224",
    "vit_small_patch14_reg4_dinov2",
    "vit_base_patch16_dinov3",
    "beit_base_patch16_224",
    "eva02_tiny_patch14_224",
)
IMAGES = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def architecture(backbone: str = PLAIN, **head: Any) -> Architecture:
    """Of a tiny ViT; keyword arguments are those of its head, a linear one."""
    settings = {"hidden": 0, "norm": "none", **head}
    return Architecture.model_validate({"backbone": backbone, "options": OPTIONS, "head": settings})


def made(backbone: str = PLAIN, seed: int = 0, **head: Any) -> Network:
    """A tiny ViT with a head, in evaluation mode, all of whose weights say something."""
    torch.manual_seed(seed)
    network = build_network(architecture(backbone, **head)).eval()
    return stir(network)


def stir(network: Network) -> Network:
    """With noise on every weight: none is zero, as a pool's query and LoRA's `up` are at first."""
    draws = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws))
    return network


def largest_difference(one: Tensor | nn.Module, other: Tensor) -> float:
    """Of two tensors, relative to the size of the second."""
    assert isinstance(one, Tensor)
    return float((one - other).abs().max() / other.abs().max())
