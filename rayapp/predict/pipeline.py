"""Prediction on Ray Data: a pool of workers, each with the detector loaded once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field

from rayapp import cluster, load_detector, manifest, rows, runs, scores
from rayapp.errors import JobFailed
from rayapp.images import ImageError, sha256
from rayapp.models.detector import Detector
from rayapp.parts import drop_parts
from rayapp.predict.inputs import Inputs, resolve
from rayapp.predict.score import Scored, score
from rayapp.predict.verdict import as_csv
from rayapp.settings import JobSettings
from rayapp.storage import Store, absolute_uri

CSV_FILE = "scores.csv"
_MAX_NAMED = 20


class PredictSettings(JobSettings):
    """Score images: how likely each is AI-generated, by a detector."""

    detector: str = Field(description="folder or s3:// prefix of a detector")
    input: str = Field(description="folder, s3:// prefix, pattern, list, manifest or image file")
    root: str | None = Field(None, description="where the paths of a list or manifest start")
    scheme: str = Field("imaginet", description="label scheme of a list")
    batch_size: int = Field(16, ge=1, description="images of one batch; views of a forward pass")
    threads: int = Field(1, ge=1, description="CPU threads of one worker")
    gpus: float = Field(0.0, ge=0, description="GPUs of one worker; 0: CPU")
    workers: int | None = Field(None, ge=1, description="workers at most; as many as fit if none")


def predict(settings: PredictSettings) -> runs.Run:
    """Score every input, or go on with it; scores.parquet and scores.csv under the output.

    Raises:
        UserError: no such detector or input.
        JobFailed: not one image could be read.
    """
    detector = load_detector(settings.detector)
    inputs = resolve(settings.input, root=settings.root, scheme=settings.scheme)
    hashes = {"detector": detector.hash(), "input": _listing_hash(inputs)}
    run = runs.start(
        "predict", settings, hashes, output=settings.output, overwrite=settings.overwrite
    )
    if run.state == "done":
        return run
    work = PredictRows(
        absolute_uri(settings.detector),
        inputs.root,
        hashes["detector"],
        settings.batch_size,
        settings.threads,
        "cuda" if settings.gpus else "cpu",
    )
    with cluster.session(settings):
        table = rows.map_rows(
            inputs.table,
            work,
            scores.schema(inputs.scheme),
            run=run,
            batch_size=settings.batch_size,
            resources=rows.Resources(settings.threads, settings.gpus, settings.workers),
            wait_s=settings.wait_s,
        ).table()
    scores.write_scores(run.store, table, inputs.root.root)
    run.store.put(CSV_FILE, as_csv(table, detector).encode())
    failed = manifest.count_failed(table)
    if failed == table.num_rows:
        raise JobFailed(
            f"none of {failed} inputs is a readable image; first: {_named(table, 1)[0]}"
        )
    counts = {"in": table.num_rows, "scored": table.num_rows - failed, "failed": failed}
    run.finish(counts, {"failures": _named(table, _MAX_NAMED)})
    drop_parts(run.store)
    return run


def _listing_hash(inputs: Inputs) -> str:
    ids = inputs.table["id"].to_pylist()
    return runs.digest(inputs.root.root.encode(), *(name.encode() for name in ids))


def _named(table: pa.Table, most: int) -> list[str]:
    failed = table.filter(pc.not_equal(table["status"], manifest.STATUS_OK)).slice(0, most)
    pairs = zip(failed["path"].to_pylist(), failed["error"].to_pylist(), strict=True)
    return [f"{path}: {error}" for path, error in pairs]


@dataclass
class PredictRows:
    """Row work: the detector is loaded once a worker, images are scored a batch at a time."""

    detector_uri: str
    root: Store
    detector_hash: str
    max_views: int
    threads: int
    device: str
    _detector: Detector = field(init=False, repr=False)

    def setup(self) -> None:
        """Load the detector."""
        torch.set_num_threads(self.threads)
        cv2.setNumThreads(1)
        self._detector = load_detector(self.detector_uri, device=self.device)
        self._detector.network.to(memory_format=torch.channels_last)

    def batch(self, batch: Sequence[rows.Row]) -> list[rows.Row]:
        """A logit a row, or its error."""
        files = [self._read(row["path"]) for row in batch]
        scored = score(self._detector, files, self.max_views)
        hashes = {
            "detector_hash": self.detector_hash,
            "preprocessing_hash": self._detector.spec.preprocessing.hash,
        }
        return [
            {**row, **hashes, **_result(file, one)}
            for row, file, one in zip(batch, files, scored, strict=True)
        ]

    def _read(self, key: str) -> bytes | ImageError:
        try:
            return self.root.get(key)
        except OSError as error:
            return ImageError(f"can't be read: {rows.said(error)}")


def _result(file: bytes | ImageError, scored: Scored) -> rows.Row:
    known: rows.Row = {}
    if isinstance(file, bytes):
        known = {"sha256": sha256(file), "bytes": len(file)}
    if scored.image is None:
        return {**known, "status": manifest.STATUS_FAILED, "error": scored.error}
    image = scored.image
    return {
        **known,
        "logit": scored.logit,
        "width": image.width,
        "height": image.height,
        "format": image.format,
        "orientation": image.orientation,
        "note": image.note,
        "status": manifest.STATUS_OK,
        "error": "",
    }
