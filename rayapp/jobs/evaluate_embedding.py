"""Features of some test images in two dimensions: t-SNE of the backbone's features."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayapp.cluster.map_rows import Resources, map_rows
from rayapp.cluster.session import on_demand
from rayapp.config.scoring import ScoringSettings
from rayapp.dataset import manifest
from rayapp.dataset.labels import item_id
from rayapp.evaluate.embedding import EmbedSettings, FeatureRows, flattened
from rayapp.models.folder import load_detector
from rayapp.run import record
from rayapp.run.resume import nothing_left
from rayapp.run.row_parts import drop_parts
from rayapp.storage.uris import open_store
from rayapp.transforms.draws import generator

EMBEDDING_FILE = "embedding.parquet"
_BATCH = 16
_SCHEMA = manifest.schema(extra={"features": pa.list_(pa.float32())})


def embed(settings: EmbedSettings, paths: Sequence[str]) -> record.Run:
    """Write embedding.parquet: path, x, y; images that can't be read are left out.

    Raises:
        UserError: no such detector.
    """
    detector = load_detector(settings.detector)
    order = generator(settings.seed, "embedding", "").permutation(len(paths))
    chosen = sorted(item_id(paths[at]) for at in order[: settings.num_images])
    inputs = {"detector": detector.hash(), "images": record.digest(*(p.encode() for p in chosen))}
    run = record.start(
        "embed",
        settings,
        inputs,
        output=settings.output,
        overwrite=settings.overwrite,
        placement=frozenset(ScoringSettings.model_fields),
    )
    if nothing_left(run):
        return run
    listed = pa.table({"id": pa.array(chosen), "path": pa.array(chosen)})
    work = FeatureRows(settings.detector, open_store(settings.root), settings)
    with on_demand(settings):
        table = map_rows(
            listed,
            work,
            _SCHEMA,
            run=run,
            batch_size=_BATCH,
            resources=Resources(settings.threads, settings.gpus_per_worker, settings.num_workers),
            wait_s=settings.wait_s,
        ).table()
    read = table.filter(pc.equal(table["status"], manifest.STATUS_OK))
    points = flattened(np.asarray(read["features"].to_pylist(), np.float32), settings.seed)
    placed = pa.table({"path": read["path"], "x": points[:, 0], "y": points[:, 1]})
    manifest.write_table(run.store, EMBEDDING_FILE, placed)
    counts = {"in": table.num_rows, "failed": table.num_rows - read.num_rows}
    run.finish(counts, made=(EMBEDDING_FILE,))
    drop_parts(run.store)
    return run
