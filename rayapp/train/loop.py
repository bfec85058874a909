"""One rank's training from its first or last state to the detector: the same alone and on Ray."""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from rayapp.config.memory import keep_freed_memory
from rayapp.storage.uris import open_store
from rayapp.train.check import check
from rayapp.train.engine import Engine
from rayapp.train.outcome import record_end, record_epoch
from rayapp.train.settings import TrainSettings
from rayapp.train.training_job import Job, RankContext

Figures = Mapping[str, Any]
OnStep = Callable[[Engine], bool]
# Called by every rank after each epoch: its figures and, on rank 0, the state to go on from.
Keep = Callable[[Figures, io.BytesIO | None], None]


def train_rank(
    job: Job,
    rank_context: RankContext,
    state: bytes | None,
    keep: Keep,
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Train to the end, from a state or from the start; rank 0 writes what training leaves behind.

    Args:
        job: what is trained.
        rank_context: this rank's place.
        state: what `keep` was last given, by this run or by one that was cut off.
        keep: keeps the state of an epoch that is through; what it raises ends the training.
        on_step: see Engine.epochs.

    Returns:
        Counts and results, on rank 0; nothing on others.

    Raises:
        UserError: images can't be read, or a step does not fit into memory.
        JobFailed: the loss is not finite.
    """
    with _computing(job.settings):
        engine = Engine(job, rank_context)
        if state is None:
            check(engine.network, job, rank_context)
        else:
            engine.load(_loaded(state, rank_context.device))
        store = open_store(job.settings.output)
        for figures in engine.epochs(on_step):
            if rank_context.rank == 0:
                record_epoch(engine, store, figures)
            keep(figures, _saved(engine) if rank_context.rank == 0 else None)
        return record_end(engine, store) if rank_context.rank == 0 else {}


@contextlib.contextmanager
def _computing(settings: TrainSettings) -> Iterator[None]:
    """Memory, threads and precision as training wants them, in a process that may go on after."""
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    keep_freed_memory()
    torch.set_num_threads(settings.threads)
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])


def _loaded(state: bytes, device: torch.device) -> Any:
    return torch.load(io.BytesIO(state), map_location=device, weights_only=True)


def _saved(engine: Engine) -> io.BytesIO:
    state = io.BytesIO()
    torch.save(engine.state(), state)  # into a file it would not say that the disk is full
    state.seek(0)
    return state


def note(engine: Engine) -> str:
    """What the progress line says beside the counts."""
    if not engine.history:
        return engine.stage.name
    last = engine.history[-1]
    rate = last["learning_rate"]
    return f"{engine.stage.name}, loss {last['loss']:.4f}, learning rate {rate:.2g}"
