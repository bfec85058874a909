"""Optimisers and the learning rate of every step."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from rayapp.train.settings import StageSettings


def create_optimizer(
    parameters: Iterable[nn.Parameter], settings: StageSettings, *, fused: bool = False
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, over the parameters that are trained."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            trained, rate, momentum=settings.momentum, weight_decay=decay, fused=fused
        )
    return torch.optim.AdamW(trained, rate, weight_decay=decay, fused=fused)


def learning_rate(step: int, num_steps: int, num_warmup_steps: int, peak: float) -> float:
    """Linear from peak / warm-up steps to the peak, then half a cosine to zero after the last step.

    It depends on the step alone, so a schedule has no state, and is right for any number of steps.
    """
    warmup = min(num_warmup_steps, num_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (num_steps - warmup)))
