"""What training leaves behind: after each epoch what it shows of itself, at the end detectors."""

from collections.abc import Mapping
from typing import Any

from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.folder import SPEC_FILE, WEIGHTS_FILE, save_detector
from rayapp.models.lora import merged
from rayapp.run import record
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store
from rayapp.train.engine import Engine
from rayapp.train.journal import write_events, write_metrics

DETECTOR_FOLDER = "detector"
LAST_FOLDER = "last"
STATE_FILE = "state.pt"
MADE = tuple(f"{DETECTOR_FOLDER}/{name}" for name in (SPEC_FILE, WEIGHTS_FILE))
_NAMED_UNREADABLE = 100


def record_epoch(engine: Engine, store: Store, figures: Mapping[str, Any]) -> None:
    """metrics.csv and the TensorBoard file of the epoch that is through."""
    write_metrics(store, engine.history)
    write_events(store, len(engine.history), figures)


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
