"""Training in this process, without Ray: one worker on a CPU, a trial of a search, a notebook."""

import io
from collections.abc import Callable

import torch

from rayapp.config.errors import UserError
from rayapp.run import record
from rayapp.run.resume import nothing_left
from rayapp.train.loop import Figures, OnStep, train_rank
from rayapp.train.outcome import CHECKPOINTS, MADE, STATE_FILE, newest_state
from rayapp.train.prepare import make_job, open_run
from rayapp.train.settings import TrainSettings
from rayapp.train.training_job import Job, RankContext

OnEpoch = Callable[[Figures], None]


def train_alone(
    settings: TrainSettings, on_epoch: OnEpoch | None = None, on_step: OnStep | None = None
) -> record.Run:
    """Train a detector, or go on with it, as one worker; it lies in `<output>/detector`.

    It is the run that Ray Train would do with `num_workers: 1`, to the bit. The state is kept in
    `<output>` after each epoch, so that the same call goes on after a kill.

    Args:
        settings: those of the job; what they say of workers has no effect.
        on_epoch: called with each epoch's figures, the columns of metrics.csv, once the epoch is
            kept; not for epochs of before a kill. What it raises ends the training.
        on_step: see Engine.epochs.

    Raises:
        UserError: wrong lists or settings, or an output that belongs to another run.
        JobFailed: the loss is not finite.
    """
    job, inputs = make_job(settings)
    run = open_run(settings, inputs)
    return run if nothing_left(run) else train_here(job, run, on_epoch, on_step)


def train_here(
    job: Job, run: record.Run, on_epoch: OnEpoch | None = None, on_step: OnStep | None = None
) -> record.Run:
    """See train_alone, of a run that is open and not done."""
    settings = job.settings
    if settings.ingest == "stream":
        raise UserError("ingest stream wants Ray Train's workers; give --ingest indexed")
    state = None if run.state == "new" else newest_state(run.store)

    def keep(figures: Figures, saved: io.BytesIO | None) -> None:
        assert saved is not None, "alone is rank 0"
        run.store.put(STATE_FILE, saved)
        if on_epoch:
            on_epoch(figures)

    with run.claimed():
        result = train_rank(job, RankContext(device=_device(settings)), state, keep, on_step)
    leftover = [stat.key for stat in list(run.store.list(f"{CHECKPOINTS}/"))]
    run.store.delete([STATE_FILE, *leftover])
    run.finish(result.pop("counts"), result, made=MADE)
    return run


def _device(settings: TrainSettings) -> torch.device:
    if settings.gpus_per_worker and not torch.cuda.is_available():
        raise UserError(
            "gpus_per_worker: this machine has no GPU; give --gpus-per-worker 0 --precision fp32"
        )
    return torch.device("cuda" if settings.gpus_per_worker else "cpu")
