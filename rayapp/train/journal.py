"""What a training run shows of itself: metrics.csv and TensorBoard files, whole each epoch."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from rayapp.storage.disk import scratch_folder
from rayapp.storage.store import Store

METRICS_FILE = "metrics.csv"
_TAGS = ("loss", "validation_loss", "learning_rate", "images_per_s", "data_wait_share")


def write_metrics(store: Store, history: Sequence[Mapping[str, Any]]) -> None:
    """One line an epoch; written anew each time, so that a resumed run has each line once."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    store.put(METRICS_FILE, text.getvalue().encode())


def write_events(store: Store, number: int, figures: Mapping[str, Any]) -> None:
    """The figures of the run's epoch `number` as a TensorBoard file of their own.

    A file an epoch, whole and with a name that the epoch gives, is as good on S3 as on a disk, and
    is written over, not doubled, by a run that resumes.
    """
    with scratch_folder() as folder:
        with SummaryWriter(folder) as writer:
            for tag in (tag for tag in _TAGS if figures[tag] is not None):
                writer.add_scalar(f"{figures['stage']}/{tag}", figures[tag], figures["step"])
        written = next(Path(folder).iterdir()).read_bytes()
    store.put(f"tensorboard/{number:06d}.tfevents", written)
