"""Optimisers and the learning rate of every step."""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from rayapp.config.errors import UserError
from rayapp.models.backbones import Backbone
from rayapp.train.settings import StageSettings


def create_optimizer(
    module: nn.Module,
    settings: StageSettings,
    *,
    backbone: Backbone | None = None,
    fused: bool = False,
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, over the parameters of the module that are trained.

    Each group's `rate_factor` is what the learning rate of a step is multiplied by: 1, or below it
    with `layer_decay` for the deeper layers of the backbone.

    Raises:
        UserError: layer_decay, and the backbone does not say what its layers are.
    """
    scales = _factors(backbone, settings.layer_decay) if backbone and settings.layer_decay else {}
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for parameter in module.parameters():
        if parameter.requires_grad:
            groups.setdefault(scales.get(parameter, 1.0), []).append(parameter)
    rate, decay = settings.learning_rate, settings.weight_decay
    # The whole rate first: what is shown of a step is the first group's.
    given: list[dict[str, Any]] = [
        {"params": groups[factor], "rate_factor": factor, "lr": rate * factor}
        for factor in sorted(groups, reverse=True)
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            given, rate, momentum=settings.momentum, weight_decay=decay, fused=fused
        )
    return torch.optim.AdamW(given, rate, weight_decay=decay, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its part of a step's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]


def _factors(backbone: Backbone, decay: float) -> Mapping[nn.Parameter, float]:
    """decay^(layers above) of each parameter: 1 in the last layer, as timm counts layers.

    Source: Bao et al., BEiT, arXiv 2106.08254 (layer-wise learning-rate decay).
    """
    from timm.models import group_parameters

    model = cast(Any, backbone.model)
    if not hasattr(model, "group_matcher"):
        raise UserError("layer_decay: the backbone does not say what its layers are; leave it out")
    layers = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    last = max(layers.values())
    return {p: decay ** (last - layers[name]) for name, p in model.named_parameters()}


def learning_rate(step: int, num_steps: int, num_warmup_steps: int, peak: float) -> float:
    """Linear from peak / warm-up steps to the peak, then half a cosine to zero after the last step.

    It depends on the step alone, so a schedule has no state, and is right for any number of steps.
    """
    warmup = min(num_warmup_steps, num_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (num_steps - warmup)))
