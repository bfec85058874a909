"""Scores for lists of images: what is stored is used, what is missing is predicted."""

from collections.abc import Iterable

from pydantic import Field

from rayapp import runs
from rayapp.labels import item_id
from rayapp.manifest import item_rows, write_table
from rayapp.labels import Item, LabelScheme
from rayapp.predict.pipeline import PredictSettings, predict
from rayapp.scores import read_matching
from rayapp.settings import JobSettings
from rayapp.storage import absolute_uri, open_store

TODO_FILE = "images.parquet"


class ScoringSettings(JobSettings):
    """How images that have no score yet are scored."""

    batch_size: int = Field(16, ge=1, description="images of one batch, for missing scores")
    threads: int = Field(1, ge=1, description="CPU threads of one worker, for missing scores")
    gpus: float = Field(0.0, ge=0, description="GPUs of one worker, for missing scores; 0: CPU")
    workers: int | None = Field(None, ge=1, description="workers at most, for missing scores")


def score_missing(
    detector: str,
    detector_hash: str,
    paths: Iterable[str],
    root: str,
    stored: tuple[str, ...],
    folder: str,
    settings: ScoringSettings,
) -> int:
    """Predict those of the images that no stored table has a score for; how many there were.

    Each image is scored once, however many lists name it. Scores go below `folder`, in a folder
    named by detector and images, so that the same call goes on where it was cut off.

    Args:
        detector: URI.
        detector_hash: its hash; scores by others don't count.
        paths: annotated paths under `root`.
        root: where they start.
        stored: folders of score tables to look into, beside `folder`.
        folder: where new scores go.
        settings: what the workers take.
    """
    root = absolute_uri(root).rstrip("/")
    known = read_matching((*stored, folder), detector_hash, root)
    scored = set(known.filter(known["status"] == "ok")["path"].to_pylist()) if False else {
        path
        for path, status in zip(
            known["path"].to_pylist(), known["status"].to_pylist(), strict=True
        )
        if status == "ok"
    }
    missing = sorted({item_id(path) for path in paths} - scored)
    if not missing:
        return 0
    name = runs.digest(detector_hash.encode(), root.encode(), *(p.encode() for p in missing))[:16]
    store = open_store(f"{folder}/{detector_hash[:12]}-{name}")
    return len(missing)
