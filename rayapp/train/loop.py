"""Training on Ray Train: workers, checkpoints, restarts; the training itself is `engine`."""

import contextlib
import io
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from torch import nn

from rayapp import __version__, cluster, runs
from rayapp.errors import JobFailed, UserError
from rayapp.images import sha256
from rayapp.labels import LabelScheme, load_scheme, read_lists
from rayapp.models.backbones import normalisation
from rayapp.models.detector import Architecture, Detector, DetectorSpec, build_network
from rayapp.models.folder import save_detector
from rayapp.models.preprocessing import Preprocessing
from rayapp.progress import Progress, watched
from rayapp.storage import absolute_uri, open_store, read_uri
from rayapp.train.engine import Engine, Job, Place, Stage
from rayapp.train.items import ORIGIN, told, train_items
from rayapp.train.journal import METRICS_FILE, write_events, write_metrics
from rayapp.train.settings import TrainSettings
from rayapp.transforms import load_protocol

DETECTOR_FOLDER = "detector"
_CHECKPOINTS = "checkpoints"
_STATE_FILE = "state.pt"
_POST_EVERY_S = 1.0


def train(settings: TrainSettings) -> runs.Run:
    """Train a detector, or go on with it; it lies in `<output>/detector`.

    Raises:
        UserError: wrong lists or settings, or an output that belongs to another run.
        JobFailed: training failed more often than `max_failures`.
    """
    job, inputs = _plan(settings)
    run = runs.start(
        "train", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if run.state == "done":
        return run
    asked = {"CPU": settings.cpus_per_worker * (settings.min_workers or settings.num_workers)}
    if settings.gpu:
        asked["GPU"] = settings.min_workers or settings.num_workers
    with cluster.session(settings):
        cluster.require(asked, "train", settings.wait_s)
        with Progress("train", job.num_images) as progress:
            progress.skip(_images_before(run))
            with watched(progress) as board:
                result = _fit(job, board)
    run.store.delete([stat.key for stat in list(run.store.list(f"{_CHECKPOINTS}/"))])
    run.finish(result.pop("counts"), result)
    return run


def _plan(settings: TrainSettings) -> tuple[Job, dict[str, str]]:
    """The job, all that may be wrong in it found before anything starts; and its inputs' hashes."""
    scheme = load_scheme(settings.scheme)
    inputs = {"root": absolute_uri(settings.root)}
    stages = []
    for name, stage, uris in (
        ("stage1", settings.stage1, settings.annotations),
        ("stage2", settings.stage2, settings.head_annotations or settings.annotations),
    ):
        if not stage.epochs:
            continue
        inputs |= {uri: sha256(read_uri(uri)) for uri in uris}
        protocol = load_protocol(stage.protocol)
        inputs[f"protocol of {name}"] = protocol.hash
        items = train_items(read_lists(uris, scheme), settings.target)
        if name == "stage2" or settings.loss == "ce":
            items = [item for item in items if item.target >= 0]
        stages.append(Stage(name, stage, protocol, items))
    spec = _spec(settings, scheme, inputs)
    settings = settings.model_copy(update={"root": absolute_uri(settings.root)})
    return Job(settings, spec, tuple(stages), "generator" in scheme.columns), inputs


def _spec(settings: TrainSettings, scheme: LabelScheme, inputs: Mapping[str, str]) -> DetectorSpec:
    labels = told(scheme, settings.target)
    outputs = 1 if settings.target == ORIGIN else len(labels.classes)
    head = settings.built.head.model_copy(update={"num_outputs": outputs})
    architecture: Architecture = settings.built.model_copy(update={"head": head})
    mean, std = normalisation(architecture.backbone)
    preprocessing = Preprocessing(view=settings.view, size=settings.view_size, mean=mean, std=std)
    with torch.device("meta"):
        strides = build_network(architecture).encoder.backbone.strides()
    return DetectorSpec(
        architecture=architecture,
        strides=strides,
        preprocessing=preprocessing,
        labels=labels,
        provenance={
            "code": __version__,
            "settings": settings.model_dump(mode="json", exclude={"output", "overwrite"}),
            "inputs": dict(inputs),
        },
    )


def _images_before(run: runs.Run) -> int:
    """Images that an interrupted run was through with at its last epoch."""
    try:
        lines = run.store.get(METRICS_FILE).decode().splitlines()
    except FileNotFoundError:
        return 0
    return int(dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))["images"])


def _fit(job: Job, board: Any) -> dict[str, Any]:
    """Run the workers to the end; what rank 0 returns."""
    settings = job.settings
    workers = settings.num_workers
    resources = {"CPU": settings.cpus_per_worker} | ({"GPU": 1} if settings.gpu else {})
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"job": job, "board": board},
        scaling_config=ray.train.ScalingConfig(
            num_workers=(settings.min_workers, workers) if settings.min_workers else workers,
            use_gpu=settings.gpu,
            resources_per_worker=resources,
        ),
        run_config=ray.train.RunConfig(
            name=_CHECKPOINTS,
            storage_path=absolute_uri(settings.output),
            failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise _cause(error) from None
    returned = result.return_value
    assert isinstance(returned, dict)
    return returned


def _cause(error: Exception) -> UserError | JobFailed:
    """The first worker's failure as one line."""
    failures = getattr(error, "worker_failures", {})
    for failure in failures.values():
        cause = getattr(failure, "cause", failure)
        if isinstance(cause, UserError | JobFailed):
            return type(cause)(str(cause))
        return JobFailed(f"training failed: {type(cause).__name__}: {cause}")
    return JobFailed(f"training failed: {error}")


# --- on a worker ------------------------------------------------------------------------------


def _work(config: dict[str, Any]) -> dict[str, Any]:
    """Ray Train's function of one worker."""
    job, board = config["job"], config["board"]
    settings: TrainSettings = job.settings
    torch.set_num_threads(settings.threads)
    context = ray.train.get_context()
    rank, num_workers = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    engine = Engine(job, Place(rank, device, _wrap if num_workers > 1 else None))
    checkpoint = ray.train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            state = Path(folder, _STATE_FILE).read_bytes()
        engine.load(torch.load(io.BytesIO(state), map_location=device, weights_only=True))
    store = open_store(absolute_uri(settings.output))
    post = _Poster(board) if rank == 0 else None
    for figures in engine.epochs(post):
        if rank == 0:
            write_metrics(store, engine.history)
            write_events(store, len(engine.history), figures)
        with _saved(engine, rank) as saved:
            ray.train.report(figures, checkpoint=saved)
    if rank == 0:
        detector = Detector(engine.network.to("cpu"), job.spec)
        digest = save_detector(detector, open_store(f"{store.uri()}/{DETECTOR_FOLDER}"))
        return _summary(engine, digest)
    return {}


def _wrap(module: nn.Module) -> nn.Module:
    wrapped: nn.Module = ray.train.torch.prepare_model(
        module, parallel_strategy_kwargs={"broadcast_buffers": False}
    )
    return wrapped


class _Poster:
    """Tells the driver's progress line how far training is, at most once a second."""

    def __init__(self, board: Any) -> None:
        self._board, self._posted = board, 0.0

    def __call__(self, engine: Engine) -> None:
        if time.monotonic() - self._posted < _POST_EVERY_S:
            return
        self._posted = time.monotonic()
        last = engine.history[-1] if engine.history else None
        note = engine.stage.name
        if last:
            note += f", loss {last['loss']:.4f}, learning rate {last['learning_rate']:.2g}"
        self._board.post.remote(engine.images_done, note)


@contextlib.contextmanager
def _saved(engine: Engine, rank: int) -> Iterator[ray.train.Checkpoint | None]:
    """Rank 0's checkpoint in a folder that lives as long as the block."""
    if rank:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        torch.save(engine.state(), Path(folder, _STATE_FILE))
        yield ray.train.Checkpoint.from_directory(folder)


def _summary(engine: Engine, digest: str) -> dict[str, Any]:
    stages = {stage.name: len(stage.items) for stage in engine.job.stages}
    last = {figures["stage"]: figures["loss"] for figures in engine.history}
    return {
        "counts": {"items": stages, "unreadable": len(engine.unreadable)},
        "detector": DETECTOR_FOLDER,
        "detector_hash": digest,
        "loss": last,
        "unreadable": engine.unreadable,
    }
