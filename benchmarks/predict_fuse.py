"""A fusion of three detectors through predict's worker, beside the networks alone."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.photographs import lay_out
from rayapp import load_detector
from rayapp.dataset.images import decode
from rayapp.fuse.fusion_fit import Weights, make_fusion
from rayapp.jobs.fuse import fused_detector
from rayapp.models.detector import Detector, DetectorSpec, build_network
from rayapp.models.detector_spec import Architecture, HeadSettings, Preprocessing
from rayapp.models.folder import save_detector
from rayapp.predict.score import FusedScorer, make_scorer
from rayapp.predict.score_rows import PredictRows, ScorerSpec
from rayapp.storage.uris import open_store

# Three ways of seeing, as people combine: a crop, an image shrunk, and an image shrunk to more.
PARTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("resnet50.tv2_in1k", {"view": "centre", "size": 256}),
    ("vit_base_patch16_224", {"view": "resize", "size": 224}),
    ("vit_small_patch16_384", {"view": "resize", "size": 384, "resize_to": 440}),
)
_QUICK = (
    ("resnet18.tv_in1k", PARTS[0][1]),
    ("vit_tiny_patch16_224", PARTS[1][1]),
    ("vit_tiny_patch16_384", PARTS[2][1]),
)
_THREADS = 2


def part(backbone: str, view: dict[str, Any]) -> Detector:
    """A detector of random weights: what they say does not matter here."""
    torch.manual_seed(0)
    architecture = Architecture(backbone=backbone, head=HeadSettings(norm="none", hidden=0))
    network = build_network(architecture).eval()
    strides = network.encoder.backbone.strides()
    seen = Preprocessing(**view)
    spec = DetectorSpec(architecture=architecture, strides=strides, preprocessing=seen)
    return Detector(network, spec)


def measure_fuse(folder: Path, quick: bool) -> dict[str, float | None]:
    """Seconds through the worker over the sum of the networks' own; decodings of an image."""
    torch.set_num_threads(_THREADS)
    count, rounds = (8, 1) if quick else (96, 3)
    lay_out(folder / "fuse", count)
    images = folder / "fuse/images"
    paths = sorted(path.name for path in images.iterdir())
    kinds = _QUICK if quick else PARTS
    parts = [part(*one) for one in kinds]
    num = len(parts)
    weights = Weights([1.0] * num, [0.0] * num, [1 / num] * num, 0.0)
    names = [backbone for backbone, _ in kinds]
    store = open_store(folder / "fused")
    save_detector(fused_detector(make_fusion("mean", weights, parts, names, 0.8), parts), store)
    scorer = make_scorer(load_detector(store.root), bf16=False)
    assert isinstance(scorer, FusedScorer)
    seen = [scorer.see(decode((images / name).read_bytes()).pixels_HWC) for name in paths]
    work = PredictRows(ScorerSpec(store.root), open_store(images), _THREADS)
    work.setup()
    rows: list[dict[str, Any]] = [{"id": name, "path": name} for name in paths]
    ratios, decoded, networks_s, whole_s = [], 0, [], []
    for _ in range(rounds + 1):  # the first to warm up
        alone = [_seconds_alone(scorer, at, seen) for at in range(num)]
        start = time.perf_counter()
        with mock.patch("rayapp.predict.score_rows.decode", wraps=decode) as counted:
            found = work.batch(rows)
        whole_s.append(time.perf_counter() - start)
        decoded = counted.call_count
        networks_s.append(sum(alone))
        ratios.append(whole_s[-1] / networks_s[-1])
        assert all(row["status"] == "ok" for row in found), found[0]
    print(
        f"{count} images: networks alone {np.median(networks_s[1:]):.2f} s, through the worker "
        f"{np.median(whole_s[1:]):.2f} s; {decoded} decodings"
    )
    overhead = round(statistics.median(ratios[1:]), 3)
    return {"fuse_overhead": overhead, "decode_once": round(decoded / count, 3)}


def _seconds_alone(scorer: FusedScorer, at: int, seen: Sequence[Any]) -> float:
    start = time.perf_counter()
    scorer.parts[at].score([one.views[at] for one in seen])
    return time.perf_counter() - start
