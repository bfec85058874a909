"""What a rank is told: the stages of a training run, and the place it has in it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from rayapp.models.detector import DetectorSpec
from rayapp.train.batches import num_steps
from rayapp.train.items import TrainItem
from rayapp.train.settings import StageSettings, TrainSettings
from rayapp.transforms import Protocol

STAGE1, STAGE2 = "stage1", "stage2"


@dataclass(frozen=True)
class Stage:
    """One stage's name, settings, augmentation and items."""

    name: str
    settings: StageSettings
    protocol: Protocol
    items: list[TrainItem]

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        return num_steps(len(self.items), self.settings.batch_size)

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
        return sum(len(stage.items) * stage.settings.epochs for stage in self.stages)


@dataclass(frozen=True)
class Place:
    """Where a rank runs, and how its module is made one of many (DDP); `wrap` None: alone."""

    rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[nn.Module], nn.Module] | None = None
