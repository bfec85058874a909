"""Large linear layers as oneDNN computes them, in float32 on the CPU.

torch gives them to MKL, which on AMD's processors computes with half of the vector's width: ViT-B's
layers take 2.2 times as long there (Zen 5, one thread). On Zen 4, whose units have that
width, ViT-S's take as long either way.
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from rayapp.models.inference.precision import device_of, without_tf32

_LARGE = 1 << 16  # weights; the head of a detector has fewer


@contextlib.contextmanager
def inference(network: nn.Module) -> Iterator[nn.Module]:
    """No gradients in the block, and float32 as such; the network with oneDNN's linear layers.

    That is for a call: it takes a moment to make and shares all weights, so that it needs no memory
    and whoever changes them changes it. For thousands of images see `for_scoring`.
    """
    with torch.inference_mode(), without_tf32():
        by_onednn = device_of(network).type == "cpu" and not torch.is_autocast_enabled("cpu")
        yield linear_by_onednn(network, packed=False) if by_onednn else network


def linear_by_onednn(module: nn.Module, *, packed: bool = True) -> nn.Module:
    """The module, on the CPU and in float32, with oneDNN's linear layers for its large ones.

    The module stays as it is; all that is not replaced is shared with it.

    Args:
        module: in evaluation mode.
        packed: keep a copy of the weights in oneDNN's own layout; else they are shared too.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return module
    if _is_large_linear(module):
        return OneDnnLinear(cast(nn.Linear, module), packed=packed)
    if not any(_is_large_linear(one) for one in module.modules()):
        return module
    copied = copy.copy(module)
    copied._modules = {
        name: child if child is None else linear_by_onednn(child, packed=packed)
        for name, child in module._modules.items()
    }
    return copied


class OneDnnLinear(nn.Module):
    """A linear layer as oneDNN computes it, in float32 on the CPU; see `linear_by_onednn`."""

    def __init__(self, linear: nn.Linear, *, packed: bool = True) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self._weight = weight.to_mkldnn() if packed else weight
        self.bias = None if linear.bias is None else linear.bias.detach()

    @property
    def weight(self) -> Tensor:
        """Float32 [out, in], for those who multiply by it themselves."""
        return self._weight.to_dense() if self._weight.is_mkldnn else self._weight

    def forward(self, inputs: Tensor) -> Tensor:
        """Float32 [..., out] of [..., in]."""
        pointwise = torch.ops.mkldnn._linear_pointwise
        return cast(Tensor, pointwise(inputs, self._weight, self.bias, "none", [], ""))


def _is_large_linear(module: nn.Module) -> bool:
    return (
        type(module) is nn.Linear
        and module.weight.numel() >= _LARGE
        and module.weight.dtype == torch.float32
        and not (module._forward_hooks or module._forward_pre_hooks)  # whoever looks on still can
    )
