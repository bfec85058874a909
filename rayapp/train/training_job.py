"""What a rank is told: the stages of a training run, and the place it has in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from rayapp.train.data.batches import Order, step_sizes
from rayapp.train.data.items import group_numbers

if TYPE_CHECKING:
    from rayapp.models.detector import DetectorSpec
    from rayapp.train.data.crops import Batch
    from rayapp.train.data.items import TrainItem
    from rayapp.train.settings import StageSettings, TrainSettings
    from rayapp.transforms.perturbations import Perturbation

STAGE1, STAGE2 = "stage1", "stage2"


@dataclass(frozen=True)
class Stage:
    """One stage's name, settings, augmentation and items.

    `second`: each item comes as two views, by `perturbation` and by this.

    `num_streamed`: so many items come from a stream (Place.stream), and `items` is a sample.
    """

    name: str
    settings: StageSettings
    perturbation: Perturbation
    items: list[TrainItem]
    num_streamed: int = 0
    second: Perturbation | None = None

    @property
    def num_items(self) -> int:
        """Images of the stage's list."""
        return self.num_streamed or len(self.items)

    def order(self, seed: int) -> Order:
        """The order in which its items are taken."""
        sizes = len(self.items), self.settings.batch_size, self.settings.epochs
        return Order(*sizes, seed, self.name, group_numbers(self.items))

    @property
    def step_sizes(self) -> list[int]:
        """Images of each step of an epoch, up to whole groups; a stream has whole batches only."""
        size = self.settings.batch_size
        if self.num_streamed:
            return [size] * (self.num_streamed // size)
        return step_sizes(len(self.items), size)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        return len(self.step_sizes)

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the stage."""
        return self.steps_per_epoch * self.settings.epochs


@dataclass(frozen=True)
class Job:
    """All that a rank must know to train; small enough to be sent to every worker."""

    settings: TrainSettings
    spec: DetectorSpec
    stages: tuple[Stage, ...]
    validation: tuple[TrainItem, ...] = ()
    by_generator: bool = True

    @property
    def num_images(self) -> int:
        """Images that all epochs of all stages take."""
        return sum(sum(stage.step_sizes) * stage.settings.epochs for stage in self.stages)


@dataclass(frozen=True)
class RankContext:
    """Where a rank runs, and what connects it to others.

    `wrap` makes its module one of many (DDP); None: alone. `stream` gives its part of each step of
    a stage that is streamed, from a step on, in the order in which it comes. `tell` is given, in
    words, how far what comes before training is.
    """

    rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[nn.Module], nn.Module] | None = None
    stream: Callable[[Stage, int], Iterator[Batch]] | None = None
    tell: Callable[[str], None] = lambda _: None
