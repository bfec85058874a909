"""Scores for lists of images: what is stored is used, what is missing is predicted."""

from collections.abc import Iterable

import pyarrow as pa

from rayapp.config.errors import UserError
from rayapp.config.paths import check_output
from rayapp.config.scoring import ScoringSettings
from rayapp.config.settings import JobSettings
from rayapp.dataset import manifest
from rayapp.dataset.labels import item_id
from rayapp.dataset.scores import read_matching
from rayapp.jobs.predict import predict
from rayapp.predict.settings import PredictSettings
from rayapp.run import record
from rayapp.storage.uris import open_store

_CARRIED = ("group", "source", "licence")
_MANIFEST = "manifest.parquet"  # of a set that download or perturb made


def score_missing(
    detector: tuple[str, str],
    paths: Iterable[str],
    root: str,
    stored: tuple[str, ...],
    folder: str,
    settings: ScoringSettings,
    common: JobSettings,
) -> int:
    """Predict those images that no stored table has a score for; how many they were.

    Each image is scored once, however many lists name it. New scores go below `folder`, in a
    folder named by detector and images: the same call goes on where it was cut off.

    Args:
        detector: its URI and its hash; scores by others don't count.
        paths: annotated paths under `root`.
        root: where they start.
        stored: folders of score tables to look into, beside `folder`.
        folder: where new scores go.
        settings: what a worker takes.
        common: where the job runs.
    """
    uri, digest = detector
    root = root.rstrip("/")
    asked = {item_id(path) for path in paths}
    missing = sorted(asked - _scored((*stored, folder), digest, root, asked))
    if not missing:
        return 0
    name = record.digest(digest.encode(), root.encode(), *(path.encode() for path in missing))[:16]
    try:
        check_output(folder)
    except ValueError as error:
        raise UserError(f"scores {folder}: {error}") from None
    store, listed = open_store(folder), f"{name}.images.parquet"
    manifest.write_table(store, listed, _listed(missing, root))
    predict(
        PredictSettings(
            detector=uri,
            input=store.uri(listed),
            root=root,
            output=store.uri(name),
            overwrite=True,  # the folder's name says whose it is
            gallery=0,
            **settings.model_dump(),
            **common.model_dump(include={"cpus", "on_ray", "wait_s", "verbose"}),
        )
    )
    return len(missing)


def _scored(folders: tuple[str, ...], detector_hash: str, root: str, paths: set[str]) -> set[str]:
    known = read_matching(folders, detector_hash, root, paths)
    pairs = zip(known["path"].to_pylist(), known["status"].to_pylist(), strict=True)
    return {path for path, status in pairs if status == manifest.STATUS_OK}


def _listed(paths: list[str], root: str) -> pa.Table:
    """The images as predict takes them, with what the set's own manifest says of them."""
    table = pa.table({"id": pa.array(paths), "path": pa.array(paths)})
    store = open_store(root)
    if not manifest.is_there(store, _MANIFEST):
        return table
    known = manifest.read_table(store, _MANIFEST)
    at = {path: row for row, path in enumerate(known["path"].to_pylist())}
    for column in _CARRIED:
        if column in known.column_names:
            values = known[column].to_pylist()
            carried = [values[at[path]] if path in at else None for path in paths]
            table = table.append_column(column, pa.array(carried, pa.string()))
    return table
