"""Scores: one Parquet row an image × perturbation, with the logit under a detector's hash.

Probability is derived on reading, by the calibration that the reader names: a new calibration
scores nothing twice.
"""

import pyarrow as pa

from rayapp import manifest
from rayapp.errors import UserError
from rayapp.labels import LabelScheme
from rayapp.storage import Store

SCORES_FILE = "scores.parquet"
_DETECTOR_KEY = b"detector"

EXTRA = {
    "logit": pa.float32(),
    "detector_hash": pa.string(),
    "preprocessing_hash": pa.string(),
    "orientation": pa.int8(),
    "note": pa.string(),
    "variant": pa.string(),
    "group": pa.string(),
}


def schema(scheme: LabelScheme | None = None) -> pa.Schema:
    """Columns of a score table; label columns where the images carry labels."""
    return manifest.schema(scheme, EXTRA)


def write_scores(store: Store, table: pa.Table, detector: str) -> None:
    """Write the score table; `detector` is the URI it was made with."""
    metadata = {**(table.schema.metadata or {}), _DETECTOR_KEY: detector.encode()}
    manifest.write_table(store, SCORES_FILE, table.replace_schema_metadata(metadata))


def read_scores(store: Store, detector_hash: str | None = None) -> pa.Table:
    """Read a score table.

    Raises:
        UserError: there is none, or it was made by another detector than `detector_hash`.
    """
    table = manifest.read_table(store, SCORES_FILE)
    missing = {"id", "logit", "detector_hash"} - set(table.column_names)
    if missing:
        raise UserError(f"{store.uri(SCORES_FILE)}: no score table, {min(missing)} is missing")
    found = {h for h in table["detector_hash"].to_pylist() if h}
    if detector_hash is not None and found - {detector_hash}:
        raise UserError(
            f"{store.uri(SCORES_FILE)}: scored by detector {min(found)[:12]}, "
            f"not by {detector_hash[:12]}; run predict again"
        )
    return table
