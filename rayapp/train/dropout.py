"""Dropout that is drawn for the whole batch: the same units drop on any number of ranks."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class StepSeed:
    """The step that is being done, and which rows of its batch this rank holds."""

    seed: int = 0
    offset: int = 0
    num_items: int = 0


class BatchDropout(nn.Dropout):
    """Dropout over [N, …] whose mask is this rank's rows of a mask for the whole batch."""

    step_seed: StepSeed
    layer: int

    def forward(self, input: Tensor) -> Tensor:
        """Drops units and scales the others up; the identity in evaluation mode."""
        if not self.training or not self.p:
            return input
        # Seeded anew each time: a pass that activation checkpointing repeats drops the same units.
        draws = torch.Generator(input.device).manual_seed(self.step_seed.seed + self.layer)
        shape = (max(self.step_seed.num_items, len(input)), *input.shape[1:])
        kept = torch.rand(shape, generator=draws, device=input.device) >= self.p
        return input * kept[self.step_seed.offset :][: len(input)] / (1 - self.p)


def share_dropout(model: nn.Module, step_seed: StepSeed) -> None:
    """Every dropout layer of the model in place drawn for the whole batch of the turn."""
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    for number, module in enumerate(layers):
        module.__class__ = BatchDropout
        module.step_seed, module.layer = step_seed, number  # type: ignore[assignment]


def leave_dropout_eager(model: nn.Module) -> None:
    """Keep torch.compile out of these layers: it would compile them anew for each step's seed."""
    for module in model.modules():
        if isinstance(module, BatchDropout):
            disable: Any = torch.compiler.disable
            module.forward = disable(module.forward)  # type: ignore[method-assign]
