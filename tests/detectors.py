"""A tiny detector and scores for tests: real weights, real files, made in milliseconds."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from rayapp.dataset import manifest, scores
from rayapp.dataset.labels import Item, LabelScheme, write_list
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings, Preprocessing
from rayapp.models.folder import save_detector
from rayapp.models.networks import build_network
from rayapp.storage.uris import open_store


def tiny_detector(seed: int = 0, size: int = 32) -> Detector:
    """A network of a few thousand random weights that takes 32-px views."""
    torch.manual_seed(seed)
    architecture = Architecture(
        backbone="highpass-small", options={"width": 8, "depth": 2}, head=HeadSettings(hidden=0)
    )
    network = build_network(architecture).eval()
    strides = network.encoder.backbone.strides()
    preprocessing = Preprocessing(size=size)
    spec = DetectorSpec(architecture=architecture, strides=strides, preprocessing=preprocessing)
    return Detector(network, spec)


def saved_detector(folder: Path, seed: int = 0) -> str:
    """The same, in a folder; its path."""
    save_detector(tiny_detector(seed), open_store(folder))
    return str(folder)


def saved_scores(
    folder: Path,
    detector: Detector,
    items: list[Item],
    logits: np.ndarray,
    scheme: LabelScheme,
    groups: list[str] | None = None,
) -> str:
    """A score table as predict writes it, for given logits; its folder."""
    rows = [
        {
            "id": item.id,
            "path": item.id,
            "logit": float(logit),
            "detector_hash": detector.hash(),
            "group": groups[at] if groups else None,
            "status": manifest.STATUS_OK,
            "error": "",
        }
        for at, (item, logit) in enumerate(zip(items, logits, strict=True))
    ]
    table: pa.Table = manifest.from_rows(rows, scores.schema())
    schema = scores.with_root(table.schema, str(folder))
    whole = table.replace_schema_metadata(schema.metadata)
    manifest.write_table(open_store(folder), scores.SCORES_FILE, whole)
    return str(folder)


def listed(path: Path, origins: list[int], scheme: LabelScheme) -> list[Item]:
    """A list of so many images with the demo's labels, written to `path`."""
    items = []
    for number, origin in enumerate(origins):
        code = number % 4 if origin else 4
        items.append(Item(f"i/{number:04d}.png", f"i/{number:04d}.png", (origin, 0, code, code)))
    write_list(open_store(path.parent), path.name, items, scheme)
    return items
