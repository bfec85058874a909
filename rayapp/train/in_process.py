"""Training in this process, without Ray: a trial of a search, a notebook, a debugger."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import torch

from rayapp.config.errors import UserError
from rayapp.config.memory import keep_freed_memory
from rayapp.run import record
from rayapp.train.check import check
from rayapp.train.engine import Engine
from rayapp.train.outcome import MADE, STATE_FILE, record_end, record_epoch
from rayapp.train.prepare import open_run, plan
from rayapp.train.settings import TrainSettings
from rayapp.train.training_job import RankContext

OnEpoch = Callable[[Mapping[str, Any]], None]


def train_alone(
    settings: TrainSettings,
    on_epoch: OnEpoch | None = None,
    on_step: Callable[[Engine], bool] | None = None,
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
    if settings.ingest == "stream":
        raise UserError("ingest stream wants Ray Train's workers; give --ingest indexed")
    job, inputs = plan(settings)
    run = open_run(settings, inputs)
    if run.state == "done":
        return run
    keep_freed_memory()
    torch.set_num_threads(settings.threads)
    torch.set_float32_matmul_precision("high")
    engine = Engine(job, RankContext(device=_device(settings)))
    if run.state == "new" or run.store.stat(STATE_FILE) is None:
        check(engine.network, job, engine.rank_context)
    else:
        state = io.BytesIO(run.store.get(STATE_FILE))
        engine.load(torch.load(state, map_location=engine.rank_context.device, weights_only=True))
    run.claim()
    for figures in engine.epochs(on_step):
        record_epoch(engine, run.store, figures)
        state = io.BytesIO()
        torch.save(engine.state(), state)
        run.store.put(STATE_FILE, state.getvalue())
        if on_epoch:
            on_epoch(figures)
    result = record_end(engine, run.store)
    run.store.delete([STATE_FILE])
    run.finish(result.pop("counts"), result, made=MADE)
    return run


def _device(settings: TrainSettings) -> torch.device:
    if settings.gpus_per_worker and not torch.cuda.is_available():
        raise UserError(
            "gpus_per_worker: this machine has no GPU; give --gpus-per-worker 0 --precision fp32"
        )
    return torch.device("cuda" if settings.gpus_per_worker else "cpu")
