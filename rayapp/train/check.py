"""Found in the first seconds, not after hours: images that are not there, memory that is too small.

Shapes: N images of this rank's part of a step · H W C.
"""

import copy
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch

from rayapp.config.errors import UserError
from rayapp.models.distributed.collectives import global_sum, num_ranks
from rayapp.models.encoder import Network
from rayapp.train.accepted_sizes import check_crops
from rayapp.train.data.crops import Crops, Unreadable
from rayapp.train.data.views import ItemViews
from rayapp.train.objectives import create_objective, set_trained
from rayapp.train.training_job import STAGE2, Job, RankContext, Stage

_SAMPLED = 32
T = TypeVar("T")


def check(network: Network, job: Job, rank_context: RankContext) -> None:
    """Read a sample of every stage's images, and try a step of every stage.

    Called by every rank, and raised on every rank.

    Raises:
        UserError: most of the sample can't be read, the network does not take its crops, or a step
            does not fit into memory.
    """
    if job.validation:
        sample = ItemViews(_sample(job.validation), job)
        _check_read("validation", [sample[index] for index in range(len(sample))], job)
    for stage in job.stages:
        _check_images(stage, job)
        if stage.name == STAGE2 and job.settings.feature_cache:
            continue
        fits = _fits(copy.deepcopy(network), stage, job, rank_context)
        if int(global_sum(torch.tensor(float(not fits), device=rank_context.device))):
            raise UserError(
                f"{stage.name}.batch_size {stage.settings.batch_size} on {num_ranks()} workers "
                "does not fit into memory; lower it, set checkpoint_activations, or add workers"
            )


def _check_images(stage: Stage, job: Job) -> None:
    # The same items on every rank: all come to the same end without asking each other.
    crops = Crops(
        stage.items, job.settings.root, stage.perturbation, job.settings.seed, stage.second
    )
    read = [crops.read(item, 0) for item in _sample(stage.items)]
    _check_read(stage.name, read, job)
    sizes = {one[0].shape for one in read if not isinstance(one, Unreadable)}
    if len(sizes) > 1:
        raise UserError(
            f"perturbation {stage.perturbation.name} gives crops of several sizes, "
            f"{min(sizes)} and {max(sizes)}; training wants one: set {stage.name}.crop_px"
        )


def _check_read(name: str, read: Sequence[object], job: Job) -> None:
    failed = [one for one in read if isinstance(one, Unreadable)]
    if 2 * len(failed) > len(read):
        raise UserError(
            f"{name}: {len(failed)} of {len(read)} images tried under {job.settings.root} "
            f"can't be read; first {failed[0].id}: {failed[0].reason}"
        )


def _sample(sequence: Sequence[T]) -> list[T]:
    count = min(_SAMPLED, len(sequence))
    return [sequence[int(at)] for at in np.linspace(0, len(sequence) - 1, count)]


def _fits(network: Network, stage: Stage, job: Job, rank_context: RankContext) -> bool:
    """Whether a step of the stage goes through, on a copy of the network."""
    settings = job.settings
    crops = Crops(stage.items, settings.root, stage.perturbation, settings.seed, stage.second)
    shape = next(
        one[0].shape
        for one in (crops[0, index] for index in range(len(stage.items)))
        if not isinstance(one, Unreadable)
    )
    check_crops(job, stage.name, shape[-3:-1])
    num_images = -(-max(stage.step_sizes) // num_ranks())
    try:
        set_trained(network, stage.name)
        objective = create_objective(network, stage.name, settings, job.by_generator)
        objective.to(rank_context.device).train()
        num_images *= 2 if stage.second else 1
        height, width, channels = shape[-3:]
        images = torch.zeros(num_images, channels, height, width, device=rank_context.device)
        with torch.autocast(
            rank_context.device.type, torch.bfloat16, enabled=settings.precision == "bf16"
        ):
            output = objective(images)
        # Any loss will do: those of the objectives speak to other ranks, which may have failed.
        output.float().square().mean().backward()
    except torch.OutOfMemoryError:
        return False
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        return False
    finally:
        if rank_context.device.type == "cuda":
            torch.cuda.empty_cache()
    return True
