"""The demo's data set on Ray: generators trained side by side, then every image written."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import safetensors.torch
from torch import Tensor

from rayapp.cluster.map_rows import map_rows
from rayapp.cluster.session import as_completed, session
from rayapp.config.errors import JobFailed
from rayapp.dataset import manifest
from rayapp.dataset.among_files import describe_left_out, images_among
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import Item, load_scheme, write_list
from rayapp.demo import generators, photographs
from rayapp.demo.generators import FAMILIES, HELD_OUT
from rayapp.demo.image_rows import DemoImages, _weights_key
from rayapp.demo.images_made import images_to_make
from rayapp.demo.photographs import SPLITS, Photograph
from rayapp.demo.settings import DemoDataSettings
from rayapp.models.autoencoders.tiny import Family
from rayapp.run import record
from rayapp.run.progress import Progress
from rayapp.run.resume import nothing_left
from rayapp.run.row_parts import drop_parts
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store

_BATCH = 16
_EXTRA = {"group": pa.string(), "split": pa.string(), "psnr_db": pa.float32()}


def build(settings: DemoDataSettings) -> record.Run:
    """Build the data set, or go on with it; counts are in the run that is returned.

    Raises:
        UserError: photographs missing or too few.
    """
    photos = _photographs(settings.photos)
    inputs = {photo.source: sha256(photo.read()) for photo in photos}
    run = record.start(
        "demo data", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if nothing_left(run):
        return run
    with session(settings):
        run.claim()
        images = images_to_make(photos, settings.crops_per_photograph)
        trained = _train_generators(photos, settings, run.store)
        work = DemoImages(photos, settings.crops_per_photograph, trained, run.store)
        scheme = load_scheme("demo")
        table = map_rows(
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
    found = photographs.own_photographs(folder)
    store = open_store(folder)
    if left_out := images_among(store, store.list())[1]:
        print(f"--photos {folder}: left out, no images: {describe_left_out(left_out)}")
    return found


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
        for family, weights in as_completed(pending):
            store.put(_weights_key(family), weights)
            progress.update()
    return {f: safetensors.torch.load(store.get(_weights_key(f))) for f in FAMILIES}


def _train_one(family: Family, crops: Any, steps: int, seed: int) -> bytes:
    weights = generators.train(family, crops, steps=steps, seed=seed)
    return bytes(safetensors.torch.save(weights))


def _finish(run: record.Run, table: pa.Table) -> None:
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
