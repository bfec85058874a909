"""A fusion of three detectors as predict scores by it, beside the networks alone."""

import functools
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.photographs import lay_out
from rayapp import load_detector
from rayapp.dataset.images import decode
from rayapp.fuse.fusion_fit import Weights, make_fusion
from rayapp.jobs.fuse import fused_detector
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings, Preprocessing
from rayapp.models.folder import save_detector
from rayapp.models.networks import build_network
from rayapp.predict.score import FusedScorer, make_scorer
from rayapp.predict.score_rows import PredictRows, ScorerSpec
from rayapp.predict.sharing import shared_out
from rayapp.run.concurrency import batches
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
_CHUNK = 16  # images at a time


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
    """Seconds as predict does it over the sum of the networks' own; decodings of an image.

    Each takes its turn on the same few images, so that a busy machine harms both alike.
    """
    count = 2 * _CHUNK if quick else 6 * _CHUNK
    lay_out(folder / "fuse", count)
    images, store = folder / "fuse/images", open_store(folder / "fused")
    names = sorted(path.name for path in images.iterdir())
    save_detector(_three_as_one(_QUICK if quick else PARTS), store)
    threads, at_once = shared_out(len(os.sched_getaffinity(0)), 1, count, alone=False)
    work = PredictRows(ScorerSpec(store.root), open_store(images), threads, side_by_side=at_once)
    work.setup()
    networks_s, whole_s, decoded = 0.0, 0.0, 0
    for at in range(-_CHUNK, count, _CHUNK):  # the first to warm up
        some = names[max(at, 0) :][:_CHUNK]
        alone = _seconds_alone(store.root, [images / name for name in some], at_once)
        start = time.perf_counter()
        with mock.patch("rayapp.predict.score_rows.decode", wraps=decode) as counted:
            rows: list[dict[str, Any]] = [{"id": name, "path": name} for name in some]
            done = batches(work, rows, -(-len(rows) // at_once), at_once)
            found = [row for rows in done for row in rows]
        assert all(row["status"] == "ok" for row in found), found[0]
        if at >= 0:
            whole_s += time.perf_counter() - start
            networks_s += alone
            decoded += counted.call_count
    print(
        f"{count} images: networks alone {networks_s:.2f} s, as predict does it {whole_s:.2f} s; "
        f"{decoded} decodings"
    )
    overhead = round(whole_s / networks_s, 3)
    return {"fuse_overhead": overhead, "decode_once": round(decoded / count, 3)}


def _three_as_one(kinds: Sequence[tuple[str, dict[str, Any]]]) -> Detector:
    parts = [part(*one) for one in kinds]
    weights = Weights([1.0] * len(parts), [0.0] * len(parts), [1 / len(parts)] * len(parts), 0.0)
    names = [backbone for backbone, _ in kinds]
    return fused_detector(make_fusion("mean", weights, parts, names, 0.8), parts)


def _seconds_alone(fusion: str, paths: Sequence[Path], at_once: int) -> float:
    """Of the networks, one after the other, each on as many shares of the images at once."""
    scorer = _scorer(fusion)
    seen = [scorer.see(decode(path.read_bytes()).pixels_HWC) for path in paths]
    shares = [seen[at::at_once] for at in range(at_once)]
    start = time.perf_counter()
    with ThreadPoolExecutor(at_once) as threads:
        for number, network in enumerate(scorer.parts):
            views = [[one.views[number] for one in share] for share in shares]
            list(threads.map(network.score, views))
    return time.perf_counter() - start


@functools.cache
def _scorer(fusion: str) -> FusedScorer:
    scorer = make_scorer(load_detector(fusion), bf16=False)
    assert isinstance(scorer, FusedScorer)
    return scorer
