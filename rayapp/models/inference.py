"""A network made ready for scoring: BatchNorm folded, layers fused, bf16 where asked for.

What it computes stays the same: in float32 to rounding, in bf16 but for the first convolution,
which always sees pixels in float32: the high frequencies are the evidence.

Shapes: N images · C channels or features · H W.
"""

import copy
from typing import Any, Literal, cast

import torch
from torch import Tensor, fx, nn

from rayapp.models.encoder import Ensemble, Network
from rayapp.models.fusion import fuse

Precision = Literal["auto", "exact", "bf16"]
_CHECK_PIXELS, _CHECK_TOLERANCE = 64, 1e-3


def has_fast_bf16(device: str) -> bool:
    """Whether bf16 is faster than float32 there: it has instructions for it."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))


def for_scoring(network: Network | Ensemble, *, bf16: bool, compiled: bool = False) -> nn.Module:
    """A copy of the network, on its device, that maps normalised images to logits faster.

    Args:
        network: in evaluation mode; it stays as it is.
        bf16: compute in bf16 what comes after the first convolution; logits are float32.
        compiled: through torch.compile as well; needs a C++ compiler, and minutes at the start.
    """
    if isinstance(network, Ensemble):
        ready: nn.Module = _Mean([_Ready(cast(Network, one), bf16) for one in network.networks])
    else:
        ready = _Ready(network, bf16)
    if compiled:
        ready.compile()
    return ready.eval()


class _Ready(nn.Module):
    """One network, its backbone fused where that can be done."""

    def __init__(self, network: Network, bf16: bool) -> None:
        super().__init__()
        model = network.encoder.backbone.model
        fused = _fused_maps(model, bf16)
        self.bf16 = bf16 and fused is None  # as a whole by autocast
        self.maps = fused if fused is not None else _Maps(model)
        self._model = [cast(Any, model)]  # in a list: not a submodule a second time
        self.head = network.head

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits float32 [N] or [N, K]."""
        images_NCHW = images_NCHW.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images_NCHW.device.type, torch.bfloat16, enabled=self.bf16):
            maps = self.maps(images_NCHW)
        # Pooled in float32: the mean of a thousand positions deserves its digits.
        features_NC = self._model[0].forward_head(maps.float(), pre_logits=True)
        return cast(Tensor, self.head(features_NC)).float()


class _Mean(nn.Module):
    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return torch.stack([network(images_NCHW) for network in self.networks]).mean(0)


class _Maps(nn.Module):
    """A backbone without its head: images to feature maps."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return cast(Tensor, cast(Any, self.model).forward_features(images_NCHW))


def _fused_maps(model: nn.Module, bf16: bool) -> fx.GraphModule | None:
    """The backbone as a graph of fused layers; None where it can't be traced or came out wrong."""
    reference = _Maps(model).eval()
    probe = torch.linspace(-1, 1, 3 * _CHECK_PIXELS**2, device=next(model.parameters()).device)
    probe = probe.view(1, 3, _CHECK_PIXELS, _CHECK_PIXELS)
    with torch.inference_mode():
        try:
            exact = fuse(copy.deepcopy(reference), torch.float32)
            if exact is None:
                return None
            expected = reference(probe)
            error = (exact(probe.contiguous(memory_format=torch.channels_last)) - expected).norm()
        except Exception:  # noqa: BLE001 - tracing fails in many ways; unfused is right, if slower
            return None
        if not error <= _CHECK_TOLERANCE * expected.norm():
            return None
        return fuse(copy.deepcopy(reference), torch.bfloat16) if bf16 else exact
