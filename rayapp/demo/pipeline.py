"""The demo's data set on Ray: generators trained side by side, then every image written."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import safetensors.torch
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from rayapp import cluster, manifest, rows, runs
from rayapp.demo import generators, photographs
from rayapp.demo.generators import FAMILIES, HELD_OUT, Family
from rayapp.demo.photographs import SPLITS, Crop, Photograph
from rayapp.demo.plan import plan
from rayapp.errors import JobFailed
from rayapp.images import sha256
from rayapp.labels import Item, load_scheme, write_list
from rayapp.parts import drop_parts
from rayapp.progress import Progress
from rayapp.settings import JobSettings
from rayapp.storage import Store
from rayapp.uris import Uri

_BATCH = 16
_EXTRA = {"group": pa.string(), "split": pa.string(), "psnr_db": pa.float32()}


class DemoDataSettings(JobSettings):
    """Make the demo's data set: photographs, and the same crops through tiny generators."""

    photos: Uri | None = Field(None, description="folder of own photographs instead of ours")
    seed: int = Field(42, description="seed of the generators' training")
    generator_steps: int = Field(1000, ge=1, description="training steps of each generator")
    crops_per_photograph: int = Field(24, ge=1, description="crops of 256 px, at most")


def build(settings: DemoDataSettings) -> runs.Run:
    """Build the data set, or go on with it; counts are in the run that is returned.

    Raises:
        UserError: photographs missing or too few.
    """
    photos = _photographs(settings.photos)
    inputs = {photo.source: sha256(photo.read()) for photo in photos}
    run = runs.start(
        "demo data", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if run.state == "done":
        return run
    with cluster.session(settings):
        run.claim()
        images = plan(photos, settings.crops_per_photograph)
        trained = _train_generators(photos, settings, run.store)
        work = DemoImages(photos, settings.crops_per_photograph, trained, run.store)
        scheme = load_scheme("demo")
        table = rows.map_rows(
            images.sort_by([("photo", "ascending"), ("number", "ascending")]),
            work,
            manifest.schema(scheme, _EXTRA | {"photo": pa.int32(), "number": pa.int32()}),
            run=run,
            batch_size=_BATCH,
        ).table()
    _finish(run, table)
    return run


def _photographs(folder: str | None) -> list[Photograph]:
    if folder is None:
        return photographs.shipped_photographs()
    return photographs.own_photographs(folder)


def _train_generators(
    photos: Sequence[Photograph], settings: DemoDataSettings, store: Store
) -> dict[str, dict[str, Tensor]]:
    """Weights of the four generators, each trained in a task of its own or read if there."""
    training = [
        crop.pixels_HWC
        for photo in photos
        if photo.split == "train"
        for crop in photographs.crops(photo, settings.crops_per_photograph)
    ]
    task = ray.remote(num_cpus=1)(_train_one)
    crops = ray.put(np.stack(training))
    pending = {
        task.remote(family, crops, settings.generator_steps, settings.seed): family
        for family in FAMILIES
        if store.stat(_weights_key(family)) is None
    }
    with Progress("demo generators", len(FAMILIES), unit="generators") as progress:
        progress.skip(len(FAMILIES) - len(pending))
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            store.put(_weights_key(pending.pop(done)), ray.get(done))
            progress.update()
    return {f: safetensors.torch.load(store.get(_weights_key(f))) for f in FAMILIES}


def _train_one(family: Family, crops: Any, steps: int, seed: int) -> bytes:
    weights = generators.train(family, crops, steps=steps, seed=seed)
    return bytes(safetensors.torch.save(weights))


def _weights_key(family: Family) -> str:
    return f"generators/{family.replace(' ', '-')}.safetensors"


@dataclass
class DemoImages:
    """Row work: render and write one image of the plan."""

    photos: Sequence[Photograph]
    crops_per_photograph: int
    weights: dict[str, dict[str, Tensor]]
    store: Store
    _render: dict[str, generators.Reconstruction] = field(default_factory=dict)

    def setup(self) -> None:
        """Build the generators from their weights, one torch thread a worker."""
        torch.set_num_threads(1)
        self._render = {f: generators.reconstruct(f, w) for f, w in self.weights.items()}  # type: ignore[arg-type]

    def batch(self, batch: Sequence[rows.Row]) -> list[rows.Row]:
        """One written image a row."""
        return rows.each(batch, self._one)

    def _one(self, row: rows.Row) -> rows.Row:
        photo = self.photos[row["photo"]]
        crop = _crops(photo, self.crops_per_photograph)[row["number"]]
        pixels, psnr = crop.pixels_HWC, None
        if row["origin"]:
            pixels = self._render[FAMILIES[row["generator"]]](crop.pixels_HWC)
            psnr = generators.psnr_db(pixels, crop.pixels_HWC)
        data = encode_stored(pixels)
        self.store.put(row["path"], data)
        height, width = pixels.shape[:2]
        return {
            "sha256": sha256(data),
            "bytes": len(data),
            "width": width,
            "height": height,
            "format": "PNG",
            "psnr_db": psnr,
        }


@lru_cache(maxsize=2)
def _crops(photo: Photograph, most: int) -> list[Crop]:
    return photographs.crops(photo, most)


def encode_stored(pixels_HWC: Any) -> bytes:
    """PNG without compression: the file's size tells the image's size and nothing else."""
    sink = io.BytesIO()
    Image.fromarray(pixels_HWC).save(sink, "PNG", compress_level=0)
    return sink.getvalue()


def _finish(run: runs.Run, table: pa.Table) -> None:
    """Write lists, manifest and run.json, in this order."""
    failed = manifest.count_failed(table)
    if failed:
        first = table.filter(pc.not_equal(table["status"], manifest.STATUS_OK))
        raise JobFailed(f"{failed} images could not be made; first: {first['error'][0]}")
    scheme = load_scheme("demo")
    for split in SPLITS:
        part = table.filter(pc.equal(table["split"], split)).to_pylist()
        items = [
            Item(row["id"], row["path"], tuple(row[name] for name in scheme.columns))
            for row in part
        ]
        write_list(run.store, f"lists/{split}.txt", items, scheme)
    manifest.write_table(run.store, "manifest.parquet", table.drop_columns(["photo", "number"]))
    psnr = {family: round(_mean_psnr(table, code), 2) for code, family in enumerate(FAMILIES)}
    splits = table["split"].to_pylist()
    counts = {str(split): splits.count(split) for split in SPLITS}
    made = ("manifest.parquet", *(f"lists/{split}.txt" for split in SPLITS))
    run.finish(counts, {"test_psnr_db": psnr, "held_out": HELD_OUT}, made=made)
    drop_parts(run.store)


def _mean_psnr(table: pa.Table, code: int) -> float:
    chosen = table.filter(
        pc.and_(pc.equal(table["generator"], code), pc.equal(table["split"], "test"))
    )
    return float(pc.mean(chosen["psnr_db"]).as_py())
