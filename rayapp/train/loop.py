"""One rank's training from its first or last state to the detector: the same alone and on Ray.

After each epoch it leaves what it shows of itself, at the end detectors.
"""

import contextlib
import io
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from rayapp.config.errors import UserError
from rayapp.config.memory import keep_freed_memory
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.folder import SPEC_FILE, WEIGHTS_FILE, save_detector
from rayapp.models.lora import merged
from rayapp.run import record
from rayapp.run.resume import nothing_left
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store
from rayapp.train.check import check
from rayapp.train.engine import Engine
from rayapp.train.journal import METRICS_FILE, write_events, write_metrics
from rayapp.train.prepare import make_job, open_run
from rayapp.train.settings import TrainSettings
from rayapp.train.training_job import Job, RankContext

DETECTOR_FOLDER = "detector"
LAST_FOLDER = "last"
STATE_FILE = "state.pt"
CHECKPOINTS = "checkpoints"  # where Ray Train keeps states, a folder each
MADE = tuple(f"{DETECTOR_FOLDER}/{name}" for name in (SPEC_FILE, WEIGHTS_FILE))
_NAMED_UNREADABLE = 100

Figures = Mapping[str, Any]
OnEpoch = Callable[[Figures], None]
OnStep = Callable[[Engine], bool]
_KEEP_EVERY_S = 20.0  # of epochs on kept features

# Called by every rank after each epoch: its figures and, on rank 0, the state to go on from; None
# where the last one that was kept does.
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
        store, kept_at = open_store(job.settings.output), -_KEEP_EVERY_S
        for figures in engine.epochs(on_step):
            saved = None
            if rank_context.rank == 0:
                record_epoch(engine, store, figures)
                if _worth_keeping(engine, time.monotonic() - kept_at):
                    saved, kept_at = _saved(engine), time.monotonic()
            keep(figures, saved)
        return record_end(engine, store) if rank_context.rank == 0 else {}


def _worth_keeping(engine: Engine, since_s: float) -> bool:
    """Whether to keep the state: an epoch on kept features is sooner done again than kept."""
    if engine.done or not engine.on_kept_features or since_s >= _KEEP_EVERY_S:
        return True
    return engine.step_at % engine.stage.steps_per_epoch != 0  # cut: the machine goes away


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


# --- in this process, without Ray: one worker on a CPU, a trial of a search, a notebook ----------


def train_alone(
    settings: TrainSettings, on_epoch: OnEpoch | None = None, on_step: OnStep | None = None
) -> record.Run:
    """Train a detector, or go on with it, as one worker; it lies in `<output>/detector`.

    It is the run that Ray Train would do with `num_workers: 1`, to the bit. The state is kept in
    `<output>` after each epoch, on kept features every 20 s, so that the same call goes on after
    a kill.

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
    job: Job,
    run: record.Run,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> record.Run:
    """See train_alone, of a run that is open and not done; `tell` as of RankContext."""
    settings = job.settings
    if settings.ingest == "stream":
        raise UserError("ingest stream wants Ray Train's workers; give --ingest indexed")
    state = None if run.state == "new" else newest_state(run.store)

    def keep(figures: Figures, saved: io.BytesIO | None) -> None:
        if saved is not None:
            run.store.put(STATE_FILE, saved)
        if on_epoch:
            on_epoch(figures)

    with run.claimed():
        rank_context = RankContext(device=_device(settings), tell=tell)
        result = train_rank(job, rank_context, state, keep, on_step)
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


# --- what it leaves behind ------------------------------------------------------------------------


def record_epoch(engine: Engine, store: Store, figures: Mapping[str, Any]) -> None:
    """metrics.csv and the TensorBoard file of the epoch that is through."""
    write_metrics(store, engine.history)
    write_events(store, len(engine.history), figures)


def newest_state(store: Store) -> bytes | None:
    """The last state that a run kept, in one process or on Ray; None: training starts anew.

    One that was cut off while it was written is no state.
    """
    kept = [stat for stat in store.list(f"{CHECKPOINTS}/") if stat.key.endswith(f"/{STATE_FILE}")]
    own = store.stat(STATE_FILE)
    every = [*kept, *([own] if own else [])]
    for stat in sorted(every, key=lambda one: one.modified, reverse=True):
        state = store.get(stat.key)
        if zipfile.is_zipfile(io.BytesIO(state)):  # its directory is written last
            return state
    return None


def images_before(run: record.Run) -> int:
    """Images that an interrupted run was through with at its last epoch."""
    store = run.store
    if run.state == "new":
        return 0
    if store.stat(STATE_FILE) is None and next(store.list(f"{CHECKPOINTS}/"), None) is None:
        return 0
    try:
        lines = store.get(METRICS_FILE).decode().splitlines()
    except FileNotFoundError:
        return 0
    return int(dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))["images"])


def _dated(spec: DetectorSpec) -> DetectorSpec:
    """With the day on which it was trained."""
    if spec.scope.trained is None:
        return spec
    trained = spec.scope.trained.model_copy(update={"date": record.now()})
    return spec.model_copy(update={"scope": spec.scope.model_copy(update={"trained": trained})})


def record_end(engine: Engine, store: Store) -> dict[str, Any]:
    """Write the last detector, and the best one where it was chosen; counts and results."""
    engine.network.to("cpu")
    folders = [LAST_FOLDER, DETECTOR_FOLDER] if engine.best else [DETECTOR_FOLDER]
    for folder in folders:
        if engine.best and folder == DETECTOR_FOLDER:
            engine.network.load_state_dict(engine.best["network"])
        detector = Detector(merged(engine.network), _dated(engine.job.spec))
        digest = save_detector(detector, open_store(store.uri(folder)))
    stages = {f"{stage.name} items": stage.num_items for stage in engine.job.stages}
    return {
        "counts": {**stages, "unreadable": len(engine.unreadable)},
        "detector": DETECTOR_FOLDER,
        "detector_hash": digest,
        "loss": {figures["stage"]: figures["loss"] for figures in engine.history},
        "validation_loss": engine.best["loss"] if engine.best else None,
        "reproducible": engine.job.settings.ingest == "indexed",
        "unreadable": dict(list(engine.unreadable.items())[:_NAMED_UNREADABLE]),
    }
