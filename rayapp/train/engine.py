"""Training itself, on one rank: from any step on, through all stages. It knows ranks, not Ray.

Shapes: N images of this rank's part of a step · H W C.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rayapp.config.errors import JobFailed, UserError
from rayapp.dataset.images import ImageError
from rayapp.models.distributed.batchnorm import checkpoint_activations, convert_sync_batchnorm
from rayapp.models.distributed.collectives import global_sum, num_ranks
from rayapp.models.encoder import Network
from rayapp.models.folder import load_detector
from rayapp.models.lora import add_lora
from rayapp.models.networks import build_network
from rayapp.models.preprocessing import normalise
from rayapp.models.pretrained import read_weights
from rayapp.storage.uris import read_uri
from rayapp.train.data.batches import RankSteps, share
from rayapp.train.data.crops import Batch, Crops, collate
from rayapp.train.data.features import CachedFeatures, feature_items
from rayapp.train.data.views import reading
from rayapp.train.dropout import StepSeed, leave_dropout_eager, share_dropout
from rayapp.train.objectives import Objective, create_objective, set_trained
from rayapp.train.optimisation import create_optimizer, learning_rate, set_learning_rate
from rayapp.train.training_job import STAGE2, Job, RankContext, Stage
from rayapp.train.validation import validation_loss
from rayapp.transforms.draws import generator

State = dict[str, Any]


@dataclass
class _Sums:
    """What an epoch adds up on this rank."""

    loss: Tensor
    images: int = 0
    waited_s: float = 0.0
    started: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _Share:
    """The images of a step, and where among them this rank's begin."""

    num_images: int
    start: int


class Engine:
    """Trains a job's stages; `state()` at the end of any epoch is enough to go on from there."""

    def __init__(self, job: Job, rank_context: RankContext | None = None) -> None:
        self.job, self.rank_context = job, rank_context or RankContext()
        self.step_seed = StepSeed()
        self.history: list[dict[str, Any]] = []
        self.unreadable: dict[str, str] = {}
        self.best: State | None = None
        self.stage_at = self.step_at = self.images_done = 0
        torch.manual_seed(job.settings.seed)
        settings = job.settings
        own = settings.backbone_weights
        self.network = build_network(
            job.spec.architecture,
            pretrained=settings.pretrained,
            weights=read_weights(read_uri(own), own) if own else None,
        )
        if settings.encoder:
            trained = load_detector(settings.encoder).network
            if not isinstance(trained, Network):
                raise UserError(
                    f"encoder: {settings.encoder} is the mean of several networks, or not of ours"
                )
            self.network.encoder.load_state_dict(trained.encoder.state_dict())
        if settings.lora:
            add_lora(self.network.encoder.backbone, settings.lora)
        if settings.checkpoint_activations:
            side = job.spec.preprocessing.size
            checkpoint_activations(self.network.encoder.backbone, torch.zeros(2, 3, side, side))
        if num_ranks() > 1:
            convert_sync_batchnorm(self.network, self.rank_context.device.type)
        share_dropout(self.network, self.step_seed)
        self._enter()

    # --- where it stands ----------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether all stages are through."""
        return self.stage_at == len(self.job.stages)

    @property
    def on_kept_features(self) -> bool:
        """Whether the stage reads features that are on disk."""
        return not self.done and self._features is not None

    @property
    def stage(self) -> Stage:
        """The stage that is being trained."""
        return self.job.stages[self.stage_at]

    def state(self) -> State:
        """All that the rest of the training depends on, the same on every rank.

        Random draws are seeded by step, so there is no generator whose state must be kept.
        """
        return {
            "stage": self.stage_at,
            "step": self.step_at,
            "images": self.images_done,
            "network": self.network.state_dict(),
            "extra": {} if self.done else self._objective.extra.state_dict(),
            "optimizer": {} if self.done else self._optimizer.state_dict(),
            "history": self.history,
            "unreadable": self.unreadable,
            "best": self.best,
        }

    def load(self, state: State) -> None:
        """Go on from a state."""
        self.stage_at, self.step_at = state["stage"], state["step"]
        self.images_done = state["images"]
        self.history, self.unreadable = list(state["history"]), dict(state["unreadable"])
        self.best = state["best"]
        self.network.load_state_dict(state["network"])
        self._enter()
        if not self.done:
            self._objective.extra.load_state_dict(state["extra"])
            groups = self._optimizer.param_groups
            fused = [group["fused"] for group in groups]
            self._optimizer.load_state_dict(state["optimizer"])
            for group, own in zip(self._optimizer.param_groups, fused, strict=True):
                group["fused"] = own  # a state may come from another kind of device

    def _enter(self) -> None:
        """Build what the stage at hand trains."""
        if self.done:
            return
        settings, stage = self.job.settings, self.stage
        torch.manual_seed(_seed(settings.seed, f"weights/{stage.name}", 0))
        set_trained(self.network, stage.name)
        objective = create_objective(self.network, stage.name, settings, self.job.by_generator)
        objective.to(self.rank_context.device)
        if settings.channels_last:
            objective.to(memory_format=torch.channels_last)
        self._features = self._cached_features()
        self._loaded: Iterator[Batch] | None = None
        self._objective = objective
        self._optimizer = create_optimizer(
            objective,
            stage.settings,
            backbone=self.network.encoder.backbone,
            fused=self.rank_context.device.type == "cuda",
        )
        self._wrapped = self.rank_context.wrap(objective) if self.rank_context.wrap else objective
        self._forward: Callable[[Tensor], Tensor] = self._wrapped
        if settings.compile:
            leave_dropout_eager(objective)
            self._forward = torch.compile(self._wrapped)

    def _cached_features(self) -> CachedFeatures | None:
        """Features of the stage's items, where the stage is a probe on them."""
        uri = self.job.settings.feature_cache
        if uri is None or self.stage.name != STAGE2:
            return None
        return feature_items(uri, self.network, self.job, self.stage.items, self.rank_context)

    # --- training -----------------------------------------------------------------------------

    def epochs(self, on_step: Callable[["Engine"], bool] | None = None) -> Iterator[dict[str, Any]]:
        """Train to the end; yields the figures of each epoch when it is through.

        Args:
            on_step: called after each step; where it says True on every rank, the epoch is cut
                there, so that its state can be kept before a machine goes away.

        Raises:
            JobFailed: the loss is not finite.
            ImageError: nothing of this rank's part of a step could be read.
        """
        while not self.done:
            figures = self._epoch(on_step)
            self.history.append(figures)
            if self.step_at == self.stage.num_steps:
                self.stage_at, self.step_at = self.stage_at + 1, 0
                self._enter()
            yield figures

    def _epoch(self, on_step: Callable[["Engine"], bool] | None) -> dict[str, Any]:
        stage = self.stage
        epoch, start = divmod(self.step_at, stage.steps_per_epoch)
        self._wrapped.train()
        sums = _Sums(torch.zeros((), device=self.rank_context.device))
        if self._loaded is None:
            self._loaded = iter(self._loader())
        for step in self._shares(epoch)[start:]:
            num_images = step.num_images
            waiting = time.monotonic()
            batch = next(self._loaded)
            sums.waited_s += time.monotonic() - waiting
            self.unreadable |= batch.failures
            if not len(batch):
                raise ImageError(f"no image of a step could be read; {_first(batch.failures)}")
            self._turn_to(step)
            sums.loss += self.step(batch) * num_images
            self.step_at += 1
            sums.images += num_images
            self.images_done += num_images
            if on_step and on_step(self):
                break
        return self._figures(stage, epoch, sums)

    def _loader(self) -> Iterable[Batch]:
        """This rank's part of every step from here to the end of the stage."""
        settings, stage = self.job.settings, self.stage
        if stage.num_streamed:
            assert self.rank_context.stream, "a streamed stage needs a stream"
            return self.rank_context.stream(stage, self.step_at)
        rank = self.rank_context.rank
        steps = RankSteps(stage.order(settings.seed), self.step_at, rank, num_ranks())
        if self._features:
            return map(self._features.batch, steps)
        return DataLoader(
            Crops(
                stage.items,
                settings.root,
                stage.perturbation,
                settings.seed,
                stage.second,
                shared_draws=settings.shared_draws,
            ),
            batch_sampler=steps,
            collate_fn=collate,
            pin_memory=self.rank_context.device.type == "cuda",
            **reading(settings.loader_processes),
        )

    def _shares(self, epoch: int) -> list[_Share]:
        """How large each step of an epoch is, and where this rank's part of it begins."""
        stage, place = self.stage, (self.rank_context.rank, num_ranks())
        if stage.num_streamed:
            return [_Share(size, share(size, *place).start) for size in stage.step_sizes]
        order = stage.order(self.job.settings.seed)
        steps = order.steps(epoch)
        return [_Share(len(one), order.share(one, *place).start) for one in steps]

    def _turn_to(self, step: _Share) -> None:
        """Seed all that is random in this step."""
        seed = _seed(self.job.settings.seed, f"step/{self.stage.name}", self.step_at)
        torch.manual_seed(seed + self.rank_context.rank)
        views = 2 if self.stage.second else 1
        self.step_seed.seed, self.step_seed.num_items = seed, views * step.num_images
        self.step_seed.offset = views * step.start

    def step(self, batch: Batch) -> Tensor:
        """One optimiser step; the mean over ranks of what it returns is the batch's loss."""
        stage = self.stage
        warmup = round(stage.settings.warmup_epochs * stage.steps_per_epoch)
        peak = stage.settings.learning_rate
        rate = learning_rate(self.step_at, stage.num_steps, warmup, peak)
        set_learning_rate(self._optimizer, rate)
        loss = self.loss(batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.detach()

    def loss(self, batch: Batch) -> Tensor:
        """This rank's share of the batch's loss, with its graph."""
        device, settings = self.rank_context.device, self.job.settings
        inputs = batch.inputs.to(device, non_blocking=True)
        if inputs.dtype == torch.uint8:
            # The views of an image, where there are two, become rows beside each other.
            inputs = inputs.flatten(0, inputs.ndim - 4)
            inputs = normalise(inputs, self.job.spec.preprocessing)
            if settings.channels_last:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            output = self._forward(inputs)
        objective = cast(Objective, self._objective)
        labels_N4 = batch.labels_N4.to(device, non_blocking=True)
        return objective.loss(output, labels_N4, batch.targets_N.to(device, non_blocking=True))

    def _figures(self, stage: Stage, epoch: int, sums: _Sums) -> dict[str, Any]:
        loss = float(global_sum(sums.loss)) / num_ranks() / max(sums.images, 1)
        if not torch.isfinite(torch.tensor(loss)):
            raise JobFailed(
                f"{stage.name}: the loss is {loss} in epoch {epoch + 1}; lower learning_rate"
            )
        seconds = time.monotonic() - sums.started
        validation = self._validated()
        return {
            "stage": stage.name,
            "epoch": epoch + 1,
            "workers": num_ranks(),
            "step": self.step_at,
            "images": self.images_done,
            "loss": loss,
            "validation_loss": validation,
            "learning_rate": self._optimizer.param_groups[0]["lr"],
            "images_per_s": round(sums.images / max(seconds, 1e-9), 2),
            "data_wait_share": round(sums.waited_s / max(seconds, 1e-9), 4),
            "seconds": round(seconds, 3),
        }

    def _validated(self) -> float | None:
        """The detector's loss on the validation list; the best one so far is kept."""
        trains_head = self.stage.name == STAGE2 or self.job.settings.loss == "ce"
        if not self.job.validation or not trains_head:
            return None
        loss, failures = validation_loss(self.network, self.job, self.rank_context)
        self._wrapped.train()
        self.unreadable |= failures
        if self.best is None or loss < self.best["loss"]:
            weights = {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}
            self.best = {"loss": loss, "network": weights}
        return loss


def _first(failures: dict[str, str]) -> str:
    identity, reason = next(iter(failures.items()))
    return f"{identity}: {reason}"


def _seed(seed: int, purpose: str, step: int) -> int:
    return int(cast(int, generator(seed, purpose, "", step).integers(1 << 62)))
