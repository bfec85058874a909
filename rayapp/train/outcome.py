"""What training leaves behind: after each epoch what it shows of itself, at the end detectors."""

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.folder import SPEC_FILE, WEIGHTS_FILE, save_detector
from rayapp.run import record
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store
from rayapp.train.engine import Engine
from rayapp.train.journal import METRICS_FILE, write_events, write_metrics

DETECTOR_FOLDER = "detector"
LAST_FOLDER = "last"
STATE_FILE = "state.pt"
CHECKPOINTS = "checkpoints"  # where Ray Train keeps states, a folder each
MADE = tuple(f"{DETECTOR_FOLDER}/{name}" for name in (SPEC_FILE, WEIGHTS_FILE))
_NAMED_UNREADABLE = 100


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
        detector = Detector(engine.network, _dated(engine.job.spec))
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
