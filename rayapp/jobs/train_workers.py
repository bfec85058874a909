"""Training on Ray Train: workers, checkpoints, restarts; the training itself is `train.loop`."""

import functools
import io
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# How often Ray's controller looks at its workers, in seconds. A report waits for the look after the
# one before it: at Ray's 2 s, epochs shorter than that would take 2 s each.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")

import ray.train
import ray.train.torch
import torch
from torch import nn

from rayapp.cluster.board import watched
from rayapp.cluster.capacity import require
from rayapp.config.errors import JobFailed, UserError
from rayapp.jobs.train_stream import parts, streamed
from rayapp.models.distributed.collectives import global_sum
from rayapp.run import record
from rayapp.run.progress import Progress
from rayapp.storage.arrow_files import arrow_files
from rayapp.storage.disk import naming, scratch_folder
from rayapp.storage.store import LocalStore
from rayapp.storage.uris import open_store
from rayapp.train.engine import Engine
from rayapp.train.loop import (
    CHECKPOINTS,
    MADE,
    STATE_FILE,
    Figures,
    images_before,
    newest_state,
    note,
    train_rank,
)
from rayapp.train.training_job import Job, RankContext

_POST_EVERY_S = 1.0
# Ray's answer costs a round trip through an actor, and Ray itself looks every 5 s.
_ASK_EVERY_S = 2.0
_ASK_EVERY_STEPS = 8


def train_on_ray(job: Job, run: record.Run) -> record.Run:
    """Train by Ray Train's workers, in a session that is open; see `jobs.train`.

    Raises:
        UserError: the cluster never has room for the workers, or they find the job wrong.
        JobFailed: training failed more often than `max_failures`.
    """
    settings = job.settings
    bundle = {"CPU": settings.cpus_per_worker} | ({"GPU": 1.0} if settings.gpus_per_worker else {})
    count = settings.min_workers or settings.num_workers
    require(bundle, "train", settings.wait_s, count=count)
    with Progress("train", job.num_images) as progress:
        progress.skip(images_before(run))
        with run.claimed(scratch=CHECKPOINTS), watched(progress) as board:
            datasets: dict[str, Any] = {}
            if settings.ingest == "stream":
                job, datasets = streamed(job, board)
            result = _fit(job, datasets, board)
        progress.update(job.num_images - progress.done)
    kept = [stat.key for stat in list(run.store.list(f"{CHECKPOINTS}/"))]
    run.store.delete([STATE_FILE, *kept])
    run.finish(result.pop("counts"), result, made=MADE)
    return run


def _fit(job: Job, datasets: dict[str, Any], board: Any) -> dict[str, Any]:
    """Run the workers to the end; what rank 0 returns."""
    settings = job.settings
    workers = settings.num_workers
    resources = {"CPU": settings.cpus_per_worker} | ({"GPU": 1} if settings.gpus_per_worker else {})
    store = open_store(settings.output)
    local = isinstance(store, LocalStore)
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"job": job, "board": board},
        datasets=datasets,
        scaling_config=ray.train.ScalingConfig(
            num_workers=(settings.min_workers, workers) if settings.min_workers else workers,
            elastic_resize_monitor_interval_s=settings.resize_check_s,
            use_gpu=settings.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        run_config=ray.train.RunConfig(
            name=CHECKPOINTS,
            storage_path=store.root if local else ".",
            storage_filesystem=None if local else arrow_files(store),
            failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            callbacks=[_Failures(board)],
        ),
    )
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        result = trainer.fit()
    except SystemExit:
        # Ray takes Ctrl-C over while it trains, and ends with this.
        raise KeyboardInterrupt from None
    except ray.train.TrainingFailedError as error:
        raise _cause(error) from None
    finally:
        # Ray leaves its handler behind.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, on_interrupt)
    returned = result.return_value
    assert isinstance(returned, dict)
    if "error" in returned:
        kind = UserError if returned["error"] == "UserError" else JobFailed
        raise kind(returned["message"])
    return returned


def _cause(error: Exception) -> JobFailed:
    """The first worker's failure as one line."""
    failures = getattr(error, "worker_failures", {})
    return JobFailed(f"training failed: {_describe(next(iter(failures.values()), error))}")


def _describe(failure: Exception) -> str:
    """A worker's failure in one line: of an exception the last, of a lost worker the first."""
    lost = getattr(failure, "health_check_failure", None)
    lines = [line.strip() for line in str(lost or failure).splitlines() if line.strip()]
    if not lines:
        return type(lost or failure).__name__
    return lines[0] if lost else lines[-1]


class _Failures(ray.train.UserCallback):  # type: ignore[misc]  # untyped in Ray
    """Has the driver say why workers are started anew: else nobody would learn of it."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """In Ray Train's controller, after every failure."""
        rank, failure = next(iter(sorted(worker_exceptions.items())))
        self._board.say.remote(f"worker {rank} failed: {_describe(failure)}")


# --- on a worker ------------------------------------------------------------------------------


def _work(config: dict[str, Any]) -> dict[str, Any]:
    """Ray Train's function of one worker; what every rank finds wrong is returned, not retried."""
    job, board = config["job"], config["board"]
    context = ray.train.get_context()
    rank, num_workers = context.get_world_rank(), context.get_world_size()
    rank_context = RankContext(
        rank,
        ray.train.torch.get_device(),
        _wrap if num_workers > 1 else None,
        functools.partial(parts, rank=rank, num_workers=num_workers, board=board),
        _Tell(board) if rank == 0 else lambda _: None,
    )
    try:
        state, on_step = _state(job), _OnStep(board, rank_context)
        return train_rank(job, rank_context, state, functools.partial(_keep, job), on_step)
    except (UserError, JobFailed) as error:
        return {"error": type(error).__name__, "message": str(error)}


def _state(job: Job) -> bytes | None:
    """Where the last checkpoint stands, or a run in one process that was cut off."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return newest_state(open_store(job.settings.output))
    with checkpoint.as_directory() as folder:
        return Path(folder, STATE_FILE).read_bytes()


def _keep(job: Job, figures: Figures, saved: io.BytesIO | None) -> None:
    """Report the epoch, with rank 0's state as the checkpoint."""
    where = naming(open_store(job.settings.output).uri(CHECKPOINTS))
    if saved is None:
        with where:
            ray.train.report(figures, checkpoint=None)
        return
    with scratch_folder() as folder:
        open_store(folder).put(STATE_FILE, saved)
        with where:
            ray.train.report(figures, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _wrap(module: nn.Module) -> nn.Module:
    wrapped: nn.Module = ray.train.torch.prepare_model(
        module, parallel_strategy_kwargs={"broadcast_buffers": False}
    )
    return wrapped


class _Tell:
    """Tells the progress line how far what comes before training is."""

    def __init__(self, board: Any) -> None:
        self._board, self._posted = board, -_POST_EVERY_S

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._posted >= _POST_EVERY_S:
            self._posted = time.monotonic()
            self._board.post.remote(None, text)


class _OnStep:
    """After each step: tells the progress line how far training is, and asks about preemption."""

    def __init__(self, board: Any, rank_context: RankContext) -> None:
        self._board, self._place = board, rank_context
        self._posted = self._asked = time.monotonic()
        self._cut = False

    def __call__(self, engine: Engine) -> bool:
        """Whether the epoch is to be cut here, because a machine is about to be taken away."""
        if self._place.rank == 0 and time.monotonic() - self._posted >= _POST_EVERY_S:
            self._posted = time.monotonic()
            self._board.post.remote(engine.images_done, note(engine))
        if self._cut or engine.step_at % _ASK_EVERY_STEPS:
            return False
        due = self._place.rank == 0 and time.monotonic() - self._asked >= _ASK_EVERY_S
        # All ranks must ask, and then all get one answer.
        if not global_sum(torch.tensor(float(due), device=self._place.device)):
            return False
        self._asked = time.monotonic()
        self._cut = ray.train.get_preemption_info() is not None
        return self._cut
