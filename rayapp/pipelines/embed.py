"""Features of some test images in two dimensions: t-SNE of the backbone's features."""

from collections.abc import Sequence

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field

from rayapp import cluster, load_detector, manifest, rows, runs
from rayapp.labels import item_id
from rayapp.models.detector import Detector
from rayapp.parts import drop_parts
from rayapp.pipelines.scoring import ScoringSettings
from rayapp.settings import JobSettings
from rayapp.storage import Store, open_store
from rayapp.transforms.draws import generator
from rayapp.uris import Uri

EMBEDDING_FILE = "embedding.parquet"
_LEAST = 8
_SCHEMA = manifest.schema(extra={"features": pa.list_(pa.float32())})


class EmbedSettings(ScoringSettings, JobSettings):
    """Put the features of some images on a plane."""

    detector: Uri = Field(description="folder or s3:// prefix of the detector")
    root: Uri = Field(description="where the paths of the images start")
    num_images: int = Field(500, ge=1, description="images at most, drawn by the seed")
    seed: int = Field(42, description="of the draw and of t-SNE")


def embed(settings: EmbedSettings, paths: Sequence[str]) -> runs.Run:
    """Write embedding.parquet: path, x, y; images that can't be read are left out.

    Raises:
        UserError: no such detector.
    """
    detector = load_detector(settings.detector)
    order = generator(settings.seed, "embedding", "").permutation(len(paths))
    chosen = sorted(item_id(paths[at]) for at in order[: settings.num_images])
    inputs = {"detector": detector.hash(), "images": runs.digest(*(p.encode() for p in chosen))}
    run = runs.start(
        "embed", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if run.state == "done":
        return run
    listed = pa.table({"id": pa.array(chosen), "path": pa.array(chosen)})
    work = FeatureRows(settings.detector, open_store(settings.root), settings)
    with cluster.session(settings):
        table = rows.map_rows(
            listed,
            work,
            _SCHEMA,
            run=run,
            batch_size=settings.batch_size,
            resources=rows.Resources(settings.threads, settings.gpus, settings.workers),
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


def flattened(features_NC: np.ndarray, seed: int) -> np.ndarray:
    """Two dimensions [N, 2] by scikit-learn's t-SNE, started from the principal components."""
    from sklearn.manifold import TSNE

    if len(features_NC) < _LEAST:
        return np.zeros((len(features_NC), 2), np.float32)
    perplexity = min(30.0, (len(features_NC) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(tsne.fit_transform(features_NC), dtype=np.float32)


class FeatureRows:
    """Row work: the backbone's features of each image."""

    def __init__(self, detector_uri: str, root: Store, settings: EmbedSettings) -> None:
        self.detector_uri, self.root = detector_uri, root
        self.threads, self.device = settings.threads, "cuda" if settings.gpus else "cpu"
        self._detector: Detector | None = None

    def setup(self) -> None:
        """Load the detector."""
        torch.set_num_threads(self.threads)
        cv2.setNumThreads(1)
        self._detector = load_detector(self.detector_uri, device=self.device)

    def batch(self, batch: Sequence[rows.Row]) -> list[rows.Row]:
        """Features a row, or why there are none."""
        return rows.each(batch, self._one)

    def _one(self, row: rows.Row) -> rows.Row:
        assert self._detector is not None
        return {"features": self._detector.features([self.root.get(row["path"])])[0].tolist()}
