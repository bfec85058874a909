"""Scoring: against the published way, against a bare loop, and from an object store.

speed   `resnet50-nodown` at 256 px on two threads. The published way is the network as it is:
        float32, channels first, one image at a time, eager. The ways take turns, image by image.
        Images: the demo's test set. The network is trained for four minutes on crops of the demo's
        training images, so that its scores tell the classes apart.
ray     20,000 small files through the job, `ray.init` apart, beside two plain processes that read,
        decode and score the same files with the same network, one thread each.
stream  a folder and a prefix of 100,000 files: seconds from the command's start to the first
        scores kept, memory of the driver, and images a second from S3 beside the local ones, with
        `resnet50-nodown` and with the demo's small network. SeaweedFS runs on this machine and
        takes its share of the same processors; `s3_share_server_apart` is what the small network
        had if the server's processor time were spent elsewhere.
fuse    three detectors as one on half-megapixel images, through the job's worker, beside the time
        that the three networks alone take for the same views; and how often an image is decoded.
hf      a Hugging Face folder beside transformers' own pipeline, in turns: predict_hf.py.

Command: python benchmarks/predict.py [--quick] [--only speed|ray|stream|fuse|hf]
"""

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

import numpy as np
import ray
import torch
from scipy import special
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.photographs import lay_out
from benchmarks.predict_fuse import measure_fuse
from benchmarks.predict_hf import measure_hf
from rayapp import load_detector
from rayapp.cluster.session import kept_open, session
from rayapp.config.memory import keep_freed_memory
from rayapp.dataset.images import decode
from rayapp.dataset.labels import load_scheme, read_list
from rayapp.demo.settings import DemoDataSettings
from rayapp.jobs.demo_data import build
from rayapp.jobs.predict import predict
from rayapp.metrics.ranking import roc_auc
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings, Preprocessing
from rayapp.models.folder import save_detector
from rayapp.models.networks import build_network
from rayapp.models.preprocessing import Pixels, normalise
from rayapp.predict.score import NetworkScorer
from rayapp.predict.settings import PredictSettings
from rayapp.storage.uris import open_store
from tests.doubles.s3 import S3

Figures = dict[str, float | None]
ROOT = Path(__file__).resolve().parents[1]
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
THREADS = 2
WAYS = "published", "exact", "bf16"
SMALL_SIDES, DEMO_SIDES = (128, 192), (256, 320)
_CROP, _CROPS, _RATE = 64, 16, 1e-3  # pixels, a step, learning rate of the training


def detector_of(backbone: str, size: int, **options: int) -> Detector:
    """Random weights, and statistics of BatchNorm that are not those of an untrained network."""
    torch.manual_seed(0)
    architecture = Architecture(
        backbone=backbone, options=options, head=HeadSettings(norm="none", hidden=0)
    )
    network = build_network(architecture).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            cast(torch.Tensor, module.running_var).uniform_(0.5, 1.5)
            cast(torch.Tensor, module.running_mean).normal_(0, 0.1)
    strides = network.encoder.backbone.strides()
    seen = Preprocessing(size=size, **IMAGENET)
    spec = DetectorSpec(architecture=architecture, strides=strides, preprocessing=seen)
    return Detector(network, spec)


def demo_images(folder: Path, split: str, count: int) -> tuple[list[Pixels], np.ndarray]:
    """Pixels and origins of the demo's images, as many of each class."""
    items = read_list(str(folder / f"lists/{split}.txt"), load_scheme("demo")).items
    chosen = [
        item
        for origin in (0, 1)
        for item in [one for one in items if one.labels[0] == origin][: count // 2]
    ]
    pixels = [decode((folder / item.path).read_bytes()).pixels_HWC for item in chosen]
    return pixels, np.array([item.labels[0] for item in chosen])


def trained(images: Sequence[Pixels], origins: np.ndarray, steps: int) -> Detector:
    """`resnet50-nodown` after some steps on crops of the images, random from the start.

    Random weights would say nothing about bf16: what tells images apart is then as small as the
    rounding.
    """
    detector = detector_of("resnet50-nodown", 256)
    network = detector.network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        chosen = rng.integers(0, len(images), _CROPS)
        corners = rng.integers(0, 256 - _CROP + 1, (_CROPS, 2))
        crops = [
            images[at][top : top + _CROP, left : left + _CROP]
            for at, (top, left) in zip(chosen, corners, strict=True)
        ]
        seen = normalise(torch.from_numpy(np.stack(crops)), detector.spec.preprocessing)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(seen)
        target = torch.from_numpy(origins[chosen].astype(np.float32))
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(logits.float().reshape(-1), target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network.eval()
    return detector


def measure_speed(folder: Path, quick: bool) -> Figures:
    """Seconds an image of the published way, exact and bf16; what changes in the scores."""
    torch.set_num_threads(THREADS)
    data = folder / "demo"
    build(DemoDataSettings(output=str(data), generator_steps=30 if quick else 1000))
    detector = trained(*demo_images(data, "train", 16 if quick else 200), 2 if quick else 160)
    images, origins = demo_images(data, "test", 8 if quick else 96)

    save_detector(detector, open_store(folder / "detector"))
    views = [NetworkScorer(detector, bf16=False, at_once=1).see(image) for image in images]
    seconds, logits = in_turns(str(folder / "detector"), views)
    plain, before = seconds["published"], logits["published"]
    probabilities = {name: special.expit(found) for name, found in logits.items()}
    auc = {name: roc_auc(origins, found).value for name, found in logits.items()}
    for name, taken in seconds.items():
        print(
            f"{name:10} {1e3 * taken:7.1f} ms an image, {plain / taken:5.2f} ×, "
            f"AUC {auc[name]:.4f}, largest change of p "
            f"{np.abs(probabilities[name] - probabilities['published']).max():.2g}"
        )
    relative = np.abs(logits["exact"] - before) / np.maximum(np.abs(before), 1e-3)
    return {
        "speedup": round(plain / seconds["bf16"], 2),
        "speedup_exact": round(plain / seconds["exact"], 2),
        "max_dp": float(np.abs(probabilities["bf16"] - probabilities["published"]).max()),
        "max_dlogit_rel": float(relative.max()),
        "auc_change": float(abs((auc["bf16"] or 0) - (auc["published"] or 0))),
        "ms_per_image": round(1e3 * seconds["bf16"], 1),
    }


def in_turns(
    detector_uri: str, views: Sequence[Pixels]
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Median seconds an image, and the logits, of each way; image by image, each way in turn.

    A process a way: memory that one keeps is not there for another.
    """
    context = multiprocessing.get_context("spawn")
    ends = {}
    for way in WAYS:
        ends[way], other = context.Pipe()
        context.Process(target=one_way, args=(way, detector_uri, other), daemon=True).start()
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for one in [views[0], *views]:  # the first to warm up
        for way, end in ends.items():
            end.send(one)
            taken[way].append(end.recv())
    for end in ends.values():
        end.send(None)
    found = {way: np.array(pairs[1:]) for way, pairs in taken.items()}
    seconds = {way: float(np.median(pairs[:, 0])) for way, pairs in found.items()}
    return seconds, {way: pairs[:, 1] for way, pairs in found.items()}


def one_way(way: str, detector_uri: str, end: Connection) -> None:
    """Scores the views that come, and says how long each took."""
    torch.set_num_threads(THREADS)
    detector = load_detector(detector_uri)
    mean, std = (torch.tensor(IMAGENET[name]).view(1, 3, 1, 1) for name in ("mean", "std"))

    def published(views: Pixels) -> float:
        seen = torch.from_numpy(views).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            return float(detector.network(((seen - mean) / std).contiguous())[0])

    def ours(views: Pixels) -> float:
        return scorer.score([views])[0][0]

    if way != "published":
        keep_freed_memory()
        scorer = NetworkScorer(detector, bf16=way == "bf16", at_once=1)
    score = published if way == "published" else ours
    while (views := end.recv()) is not None:
        start = time.perf_counter()
        logit = score(views)
        end.send((time.perf_counter() - start, logit))


def bare_loop(detector_uri: str, paths: Sequence[str]) -> None:
    """One plain process: read, decode, cut, score, 64 at a time, on one thread."""
    torch.set_num_threads(1)
    keep_freed_memory()
    scorer = NetworkScorer(load_detector(detector_uri), bf16=False)
    for at in range(0, len(paths), 64):
        files = [Path(path).read_bytes() for path in paths[at : at + 64]]
        scorer.score([scorer.see(decode(file).pixels_HWC) for file in files])


def measure_ray(folder: Path, quick: bool) -> Figures:
    """The job's rate as a share of that of two plain processes."""
    count = 2_000 if quick else 20_000
    lay_out(folder / "many", count, sides=SMALL_SIDES)
    detector = str(folder / "small")
    save_detector(detector_of("highpass-small", SMALL_SIDES[0]), open_store(detector))
    paths = sorted(str(path) for path in (folder / "many/images").iterdir())
    context = multiprocessing.get_context("spawn")
    start = time.perf_counter()
    halves = [context.Process(target=bare_loop, args=(detector, paths[k::2])) for k in range(2)]
    for process in halves:
        process.start()
    for process in halves:
        process.join()
        if process.exitcode:
            raise SystemExit("the bare loop failed")
    bare = time.perf_counter() - start
    settings = PredictSettings(
        detector=detector,
        input=str(folder / "many/images"),
        output=str(folder / "scores"),
        precision="exact",
        gallery=0,
        cpus=2,
    )
    with kept_open(), session(settings):
        ray.cluster_resources()
        start = time.perf_counter()
        run = predict(settings)
        ours = time.perf_counter() - start
    print(f"{count:,} images: bare loop {bare:.1f} s, through Ray {ours:.1f} s, {bare / ours:.3f}")
    return {"ray_efficiency": round(bare / ours, 3), "peak_mb": run.results["peak_mb"]}


def measure_stream(folder: Path, quick: bool) -> Figures:
    """Seconds to the first scores of many files; S3's rate beside the local one."""
    many = 3_000 if quick else 100_000
    lay_out(folder / "stream", many, sides=SMALL_SIDES)
    local = folder / "stream/images"
    detector = str(folder / "stream-detector")
    save_detector(detector_of("highpass-small", SMALL_SIDES[0]), open_store(detector))
    first, peak = first_score(detector, str(local), folder / "first-local")
    print(f"{many:,} local files: first scores after {first:.1f} s, driver {peak:,.0f} MB")
    with S3(folder / "s3") as server:
        os.environ.update(server.environment)
        upload(local, "s3://test/images")
        first_s3, _ = first_score(detector, "s3://test/images", folder / "first-s3")
        print(f"{many:,} objects: first scores after {first_s3:.1f} s")
        lay_out(folder / "rate", 300 if quick else 3_000, sides=DEMO_SIDES)
        upload(folder / "rate/images", "s3://test/rate")
        share, _ = rate_share(folder, "resnet50-nodown", server, "/0000*")
        small, apart = rate_share(folder, "highpass-small", server)
    return {
        "first_score_s": round(first, 1),
        "first_score_s3_s": round(first_s3, 1),
        "driver_mb": round(peak),
        "s3_share": round(share, 3),
        "s3_share_small": round(small, 3),
        "s3_share_server_apart": round(apart, 3),
    }


def upload(folder: Path, uri: str) -> None:
    """Every file of a folder as an object."""
    store = open_store(uri)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda path: store.put(path.name, path.read_bytes()), folder.iterdir()))


def rate_share(folder: Path, backbone: str, server: S3, pattern: str = "") -> tuple[float, float]:
    """Images a second from S3 as a share of those from files, at the demo's 256 px.

    Returns:
        The share as measured; and what it had been if the server's processor time, of which the
        job's two processes lost half each, were spent on another machine.
    """
    detector = str(folder / f"rate-{backbone}")
    save_detector(detector_of(backbone, DEMO_SIDES[0]), open_store(detector))
    places = {"local": str(folder / "rate/images"), "s3": "s3://test/rate"}
    seconds, of_server = {}, {}
    for name, place in places.items():
        output = folder / f"rate-{backbone}-{name}"
        before = server.cpu_s()
        subprocess.run(command(detector, place + pattern, output), env=environment(), check=True)
        of_server[name] = server.cpu_s() - before
        found = json.loads((output / "run.json").read_text())["results"]
        seconds[name] = found["scored_now"] / float(found["images_per_s"])
    print(
        f"{backbone}: {found['scored_now']:,} images in {seconds['local']:.1f} s local, in "
        f"{seconds['s3']:.1f} s from S3, whose server took {of_server['s3']:.1f} s of processor"
    )
    apart = seconds["s3"] - of_server["s3"] / THREADS
    return seconds["local"] / seconds["s3"], seconds["local"] / apart


def command(detector: str, place: str, output: Path) -> list[str]:
    job = [sys.executable, str(ROOT / "jobs/predict.py"), "--precision", "exact", "--gallery", "0"]
    return [*job, "--detector", detector, "--input", place, "--output", str(output), "--cpus", "2"]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}


def first_score(detector: str, place: str, output: Path, *more: str) -> tuple[float, float]:
    """Seconds to the first scores that are kept, and the driver's memory (MB) by then; killed."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command(detector, place, output), *more], env=environment(), start_new_session=True
    )
    kept = "scores" if "--stream" in more else "parts/predict"
    try:
        while not list((output / kept).glob("[!.]*.parquet")):
            if process.poll() is not None:
                raise SystemExit("the job ended before it kept a score")
            time.sleep(0.05)
        seconds = time.perf_counter() - start
        time.sleep(5)
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return seconds, float(peak.split()[1]) / 1e3
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    parts = {
        "speed": measure_speed,
        "ray": measure_ray,
        "stream": measure_stream,
        "fuse": measure_fuse,
        "hf": measure_hf,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer images, about a minute")
    parser.add_argument("--only", choices=list(parts), help="one part alone")
    given = parser.parse_args()
    figures: Figures = {}
    for name, measure in parts.items():
        if given.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                figures |= measure(Path(folder), given.quick)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
