"""BatchNorm over the batch of all ranks, and unspoilt by activation checkpointing.

Shapes: N images of this rank · C channels.
"""

import copy
import functools
import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rayapp.config.errors import UserError
from rayapp.models.backbones import Backbone
from rayapp.models.distributed.collectives import global_sum, sum_over_ranks


def convert_sync_batchnorm(model: nn.Module, device_type: str) -> nn.Module:
    """The model with every BatchNorm over the batch of all ranks; call it before DDP wraps it.

    On `cuda` torch's SyncBatchNorm. That refuses CPU tensors in any process group, so on `cpu` the
    layers become the ones below, in place; parameters and state dict keep their names either way.

    Raises:
        UserError: a kind of BatchNorm that has no synced form here.
    """
    if device_type == "cuda":
        import timm.layers

        return cast(nn.Module, timm.layers.convert_sync_batchnorm(model))
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            synced = _SYNCED.get(type(module)) or _synced_of_timm().get(type(module))
            if synced is None:
                raise UserError(f"{name}: no synced form of {type(module).__name__} on the CPU")
            module.__class__ = synced
    return model


def checkpoint_activations(backbone: Backbone, images_NCHW: Tensor) -> None:
    """Turns on timm's activation checkpointing, with the momentum of what it runs twice corrected.

    The second run of a forward pass updates running statistics again. Two updates by 1 - √(1 - m)
    are one by m, so they come out as without checkpointing (`num_batches_tracked` counts both).
    Which layers run twice a family does not tell: one step of a copy on `images_NCHW`, a small
    batch, finds them. Call it before convert_sync_batchnorm.

    Raises:
        UserError: the backbone has no checkpointing.
    """
    model = cast(Any, backbone.model)
    try:
        model.set_grad_checkpointing(True)
    except (AttributeError, AssertionError):
        raise UserError(
            f"{type(model).__name__} has no activation checkpointing; turn it off"
        ) from None
    for name in _run_twice(backbone, images_NCHW):
        layer = cast(_BatchNorm, backbone.get_submodule(name))
        if layer.momentum is not None:
            layer.momentum = 1 - math.sqrt(1 - layer.momentum)


def _run_twice(backbone: Backbone, images_NCHW: Tensor) -> list[str]:
    """Names of the BatchNorm layers whose forward pass one training step runs twice."""
    with torch.random.fork_rng():  # drop-path must not shift the draws of the training
        trial = copy.deepcopy(backbone).train()
        layers = {name: m for name, m in trial.named_modules() if isinstance(m, _BatchNorm)}
        counters = {n: m.num_batches_tracked for n, m in layers.items()}
        before = {n: int(counter) for n, counter in counters.items() if counter is not None}
        maps, features_NC = trial(images_NCHW)
        sum((part.float().sum() for part in maps), features_NC.float().sum()).backward()
    return [n for n, count in before.items() if int(cast(Tensor, counters[n])) - count == 2]


def _synced_batch_norm(layer: _BatchNorm, images_NC: Tensor) -> Tensor:
    """Normalises [N, C, …] by mean and variance over all ranks, whatever their N."""
    if not layer.training:
        return F.batch_norm(
            images_NC,
            layer.running_mean,
            layer.running_var,
            layer.weight,
            layer.bias,
            eps=layer.eps,
        )
    axes = [0, *range(2, images_NC.ndim)]
    shape = [1, -1, *[1] * (images_NC.ndim - 2)]
    values = images_NC.float() if images_NC.dtype == torch.bfloat16 else images_NC
    count = int(global_sum(torch.tensor(values.numel() // values.shape[1])))
    mean_C = sum_over_ranks(values.sum(axes)) / count
    centred = values - mean_C.view(shape)
    # In two steps, not as the mean of squares less the squared mean: that cancels in float32.
    variance_C = sum_over_ranks(centred.square().sum(axes)) / count
    _update_running(layer, mean_C.detach(), variance_C.detach() * (count / max(count - 1, 1)))
    normalised = centred * (variance_C + layer.eps).rsqrt().view(shape)
    if layer.affine:
        normalised = normalised * layer.weight.view(shape) + layer.bias.view(shape)
    return normalised.to(images_NC.dtype)


def _update_running(layer: _BatchNorm, mean_C: Tensor, variance_C: Tensor) -> None:
    if layer.running_mean is None or layer.running_var is None:
        return
    counter = cast(Tensor, layer.num_batches_tracked).add_(1)
    momentum = 1 / float(counter) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean_C.to(layer.running_mean.dtype), momentum)
    layer.running_var.lerp_(variance_C.to(layer.running_var.dtype), momentum)


class _Synced1d(nn.BatchNorm1d):
    def forward(self, input: Tensor) -> Tensor:
        return _synced_batch_norm(self, input)


class _Synced2d(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return _synced_batch_norm(self, input)


_SYNCED: dict[type[nn.Module], type[_BatchNorm]] = {
    nn.BatchNorm1d: _Synced1d,
    nn.BatchNorm2d: _Synced2d,
}


@functools.cache
def _synced_of_timm() -> dict[type[nn.Module], type[_BatchNorm]]:
    # On demand: timm imports as slowly as torch, and a small network needs none.
    from timm.layers import BatchNormAct2d

    class SyncedAct2d(BatchNormAct2d):  # type: ignore[misc]  # timm is untyped
        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.act(self.drop(_synced_batch_norm(cast(_BatchNorm, self), x))))

    return {BatchNormAct2d: SyncedAct2d}
