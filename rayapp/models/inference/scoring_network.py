"""A network made ready for scoring: BatchNorm folded, layers fused, bf16 where asked for.

What it computes stays the same: in float32 to rounding, in bf16 but for the first convolution,
which always sees pixels in float32: the high frequencies are the evidence. Convolutions of a fused
network compute in the precision that they have; autocast sees to all else.

Shapes: N images · C channels or features · H W.
"""

import copy
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from rayapp.models.adopted.outputs import AdoptedNetwork
from rayapp.models.backbones import Backbone
from rayapp.models.encoder import Ensemble, Network
from rayapp.models.inference.fused_layers import FusedConv, fuse, is_plain_conv
from rayapp.models.inference.linear_layers import linear_by_onednn
from rayapp.models.inference.precision import device_of

_CHECK_PIXELS, _CHECK_TOLERANCE, _BF16_TOLERANCE = 64, 1e-3, 0.1


def for_scoring(
    network: Network | Ensemble | AdoptedNetwork, *, bf16: bool, compiled: bool = False
) -> nn.Module:
    """A copy of the network, on its device, that maps normalised images to logits faster.

    Args:
        network: in evaluation mode; it stays as it is.
        bf16: compute in bf16 what comes after the first convolution; logits are float32.
        compiled: through torch.compile as well; needs a C++ compiler, and minutes at the start.
    """
    if isinstance(network, AdoptedNetwork):
        ready: nn.Module = _Adopted(network, bf16)
    elif isinstance(network, Ensemble):
        ready = _Mean([_ready(cast(Network, one), bf16) for one in network.networks])
    else:
        ready = _ready(network, bf16)
    if compiled:
        ready.compile()
    elif not bf16 and device_of(network).type == "cpu":
        ready = linear_by_onednn(ready)
    return ready.eval()


def _ready(network: Network, bf16: bool) -> nn.Module:
    return _Ready(network, bf16) if network.pool is None else ReadyTokens(network, bf16)


class _Ready(nn.Module):
    """One network, its backbone fused where that can be done."""

    def __init__(self, network: Network, bf16: bool) -> None:
        super().__init__()
        model = network.encoder.backbone.model
        self.maps = _fused_maps(model, bf16) or _unfused_maps(model, bf16)
        self.autocast = bf16 and _has_more_than_convolutions(self.maps)
        self._model = [cast(Any, model)]  # in a list: not a submodule a second time
        self.head = network.head

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits float32 [N] or [N, K]."""
        images_NCHW = images_NCHW.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images_NCHW.device.type, torch.bfloat16, enabled=self.autocast):
            maps = self.maps(images_NCHW)
        # Pooled in float32: the mean of a thousand positions deserves its digits.
        features_NC = self._model[0].forward_head(maps.float(), pre_logits=True)
        return cast(Tensor, self.head(features_NC)).float()


class ReadyTokens(nn.Module):
    """One network whose head is on a ViT's tokens."""

    def __init__(self, network: Network, bf16: bool) -> None:
        super().__init__()
        assert network.pool is not None
        self.autocast, self.pool, self.head = bf16, network.pool, network.head
        backbone = network.encoder.backbone
        self.backbone = cast(Backbone, _pixels_in_float32(backbone) if bf16 else backbone)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits float32 [N] or [N, K]."""
        with torch.autocast(images_NCHW.device.type, torch.bfloat16, enabled=self.autocast):
            class_NF, patches_NHWF = self.backbone.tokens(images_NCHW, self.pool.layers)
        return self._headed(class_NF, patches_NHWF)

    def with_patches(self, images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The same logits [N], and what the head says of each patch alone [N, gh, gw]."""
        with torch.autocast(images_NCHW.device.type, torch.bfloat16, enabled=self.autocast):
            class_NF, patches_NHWF = self.backbone.tokens(images_NCHW, self.pool.layers)
        each = cast(Tensor, self.head(patches_NHWF.float().flatten(0, 2))).float()
        return self._headed(class_NF, patches_NHWF), each.view(patches_NHWF.shape[:3])

    def _headed(self, class_NF: Tensor, patches_NHWF: Tensor) -> Tensor:
        features_NF = self.pool(class_NF.float(), patches_NHWF.flatten(1, 2).float())
        return cast(Tensor, self.head(features_NF)).float()


class _Adopted(nn.Module):
    """A network of others; with bf16 what sees the pixels keeps to float32."""

    def __init__(self, network: AdoptedNetwork, bf16: bool) -> None:
        super().__init__()
        # An ONNX file computes as it was exported.
        self.autocast = bf16 and network.adopted.kind == "transformers"
        self.network = _pixels_in_float32(network) if self.autocast else network

    def forward(self, images_NCHW: Tensor) -> Tensor:
        with torch.autocast(images_NCHW.device.type, torch.bfloat16, enabled=self.autocast):
            return cast(Tensor, self.network(images_NCHW))


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


def _unfused_maps(model: nn.Module, bf16: bool) -> nn.Module:
    """The backbone as it is, but that with bf16 what sees the pixels keeps to float32."""
    return _Maps(_pixels_in_float32(model) if bf16 else model)


def _pixels_in_float32(model: nn.Module) -> nn.Module:
    """A copy whose convolutions of pixels compute in float32 under autocast too."""
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if is_plain_conv(module) and cast(nn.Conv2d, module).in_channels == 3:
            conv = FusedConv(cast(nn.Conv2d, module), torch.float32, torch.float32)
            model.set_submodule(name, conv)
    return model


def _has_more_than_convolutions(maps: nn.Module) -> bool:
    """Whether other layers than fused convolutions have weights, which these hold as tensors."""
    return any(True for _ in maps.parameters())


def _fused_maps(model: nn.Module, bf16: bool) -> fx.GraphModule | None:
    """The backbone as a graph of fused layers; None where it can't be traced or came out wrong."""
    reference = _Maps(model).eval()
    device = next(model.parameters()).device
    probe = torch.linspace(-1, 1, 3 * _CHECK_PIXELS**2, device=device)
    probe = probe.view(1, 3, _CHECK_PIXELS, _CHECK_PIXELS)
    channels_last = probe.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        try:
            expected = reference(probe)
            found = fuse(copy.deepcopy(reference), torch.float32)
            if found is None:
                return None
            exact = found(channels_last)
            if bf16:
                found = cast(fx.GraphModule, fuse(copy.deepcopy(reference), torch.bfloat16))
                own = _has_more_than_convolutions(found)
                with torch.autocast(device.type, torch.bfloat16, enabled=own):
                    rounded = found(channels_last).float()
        except Exception:  # noqa: BLE001 - tracing fails in many ways; unfused is right, if slower
            return None
    scale = expected.norm()
    right = bool((exact - expected).norm() <= _CHECK_TOLERANCE * scale)
    if bf16:
        right = right and bool((rounded - expected).norm() <= _BF16_TOLERANCE * scale)
    return found if right else None
