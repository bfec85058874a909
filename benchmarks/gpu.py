"""All that only a GPU shows, in nine minutes at most; the last line is the figures as JSON.

nodown   a training step of configs/imaginet-selfcon.yaml beside a plain loop of the same network,
         (float32 as torch computes it by itself, channels first, eager), and the share of its
         time that training waits for crops: train_speedup, train_data_bound_share
lora     the same of configs/clip-b16-lora.yaml, CLIP's ViT-B/16 with LoRA: lora_speedup
ray      the demo's training by Ray Train on one worker with the GPU, to its end: ray_train_s
predict  the job on half-megapixel JPEGs as a share of its network's own rate on one GPU, bf16,
         `resnet50-nodown` at 256 px: predict_share of the whole job but for Ray's own start,
         predict_share_running once its worker has loaded the detector
perturb  cores that do as many photographs each as one core alone: perturb_efficiency is the one
         core's time over theirs

Each part has a process of its own and a limit; one that fails or takes too long leaves its figures
null, with the reason in `failed`. Without a GPU all are null. `--stand-in` tries every part on the
CPU, with small networks and few images: what it says of speed means nothing.

Command: benchmarks/gpu.sh [--only PART …] [--stand-in]
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Figures = dict[str, float | None]
ROOT = Path(__file__).resolve().parents[1]
_WHOLE_S = 530  # of all parts together
_TAIL = 300  # characters of what a part said last


@dataclass(frozen=True)
class Part:
    """What a part measures, and how long it may take."""

    work: Callable[[Path, str], Figures]
    figures: tuple[str, ...]
    limit_s: float


# --- training -----------------------------------------------------------------------------------


def nodown(folder: Path, device: str) -> Figures:
    """The step of the network without early strides, and what waits for data."""
    from benchmarks.train_step import data_bound_share

    size, own = 200, dict[str, Any]()
    if device == "cpu":
        size, own = 8, {"architecture": {"backbone": "highpass-small", "tap_depths": [0.67]}}
    job, speedup = _step(folder, device, "imaginet-selfcon", size, crop_px=96, **own)
    import torch

    share = data_bound_share(folder, job, 2 if device == "cpu" else 60, torch.device(device))
    return {"train_speedup": speedup, "train_data_bound_share": round(share, 4)}


def lora(folder: Path, device: str) -> Figures:
    """The step of a ViT with LoRA, two views an image."""
    size, own = 32, dict[str, Any]()
    if device == "cpu":
        size, own = 8, {"architecture": {"backbone": "vit_tiny_patch16_224"}}
    _, speedup = _step(folder, device, "clip-b16-lora", size, crop_px=224, **own)
    return {"lora_speedup": speedup}


def _step(
    folder: Path, device: str, recipe: str, size: int, *, crop_px: int, **own: Any
) -> tuple[Any, float]:
    """The job of a recipe, and the plain loop's seconds a step over ours."""
    import torch

    from benchmarks.train_step import batch_of, compared, job_of, plain_step
    from rayapp.train.engine import Engine
    from rayapp.train.training_job import RankContext

    where = torch.device(device)
    cores = len(os.sched_getaffinity(0))
    own |= {"loader_processes": max(cores - 2, 1)}
    if device == "cpu":
        own |= {"precision": "fp32", "compile": False, "gpus_per_worker": 0}
    job = job_of(folder, 16, size, recipe, **own)
    views = 2 if job.stages[0].second else 1
    batch = batch_of(size, crop_px, views)
    if device != "cpu":
        batch = batch.pin_memory()
    kinds = [plain_step(job, where), Engine(job, RankContext(0, where)).step]
    plain, ours = compared(kinds, batch, 2 if device == "cpu" else 15, where)
    print(f"{recipe}: plain {1e3 * plain:.1f} ms a step of {size}, ours {1e3 * ours:.1f} ms")
    return job, round(plain / ours, 2)


def ray_train(folder: Path, device: str) -> Figures:
    """The demo's training through Ray Train, to the detector's folder."""
    from benchmarks.train_overhead import JOB, demo_config
    from rayapp.models.folder import load_detector
    from rayapp.train.loop import DETECTOR_FOLDER

    config = demo_config(folder, crops=6, epochs=5)
    command = [sys.executable, str(JOB), "--config", str(config), "--output", str(folder / "out")]
    command += ["--num-workers", "1", "--on-ray", "--gpus-per-worker", "01"[device == "cuda"]]
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=sys.stderr)
    seconds = time.monotonic() - start
    load_detector(folder / "out" / DETECTOR_FOLDER)  # it is there, and whole
    return {"ray_train_s": round(seconds, 1)}


# --- prediction ---------------------------------------------------------------------------------


def predict_share(folder: Path, device: str) -> Figures:
    """The job's rate over that of its network on views that are in memory."""
    import ray

    from benchmarks.predict import detector_of
    from benchmarks.predict_hf import lay_out
    from rayapp.cluster.session import kept_open, session
    from rayapp.jobs.predict import predict
    from rayapp.models.folder import save_detector
    from rayapp.predict.settings import PredictSettings
    from rayapp.storage.uris import open_store

    small = device == "cpu"
    backbone = "resnet18.tv_in1k" if small else "resnet50-nodown"
    save_detector(detector_of(backbone, 256), open_store(folder / "detector"))
    rate = _network_rate(folder / "detector", device, 16 if small else 4096)
    distinct = [Path(path) for path in lay_out(folder / "distinct", 20 if small else 300)]
    counts = (20, 60) if small else (1_000, max(3_000, int(rate * 45)))

    def seconds(count: int) -> float:
        images = folder / f"images-{count}"
        images.mkdir()
        for number in range(count):
            os.link(distinct[number % len(distinct)], images / f"{number:06}.jpg")
        settings = PredictSettings(
            detector=str(folder / "detector"),
            input=str(images),
            output=str(folder / f"scores-{count}"),
            precision="exact" if small else "bf16",
            gallery=0,
            gpus_per_worker=0 if small else 1,
            num_workers=1,
        )
        with session(settings):
            ray.cluster_resources()
            start = time.monotonic()
            run = predict(settings)
            taken = time.monotonic() - start
        if run.counts["scored"] != count:
            raise SystemExit(f"{run.counts['scored']} of {count} scored")
        return taken

    with kept_open():
        few, many = (seconds(count) for count in counts)
    running = round((counts[1] - counts[0]) / (many - few) / rate, 3) if many > few else None
    print(f"network {rate:.0f} images/s; the job: {few:.1f} s and {many:.1f} s for {counts}")
    return {
        "predict_share": round(counts[1] / many / rate, 3),
        "predict_share_running": running,
        "predict_images_per_s": round(counts[1] / many, 1),
    }


def _network_rate(detector: Path, device: str, count: int) -> float:
    """Images a second of the network alone, as many at once as it takes."""
    import numpy as np

    from rayapp import load_detector
    from rayapp.predict.score import NetworkScorer

    scorer = NetworkScorer(load_detector(detector).to(device), bf16=device != "cpu")
    views = np.random.default_rng(0).integers(0, 256, (64, 256, 256, 3), np.uint8)[:, None]
    given = [views[number % len(views)] for number in range(count)]
    scorer.score(given[:64])
    start = time.perf_counter()
    for at in range(0, count, scorer.at_once):
        scorer.score(given[at : at + scorer.at_once])
    return count / (time.perf_counter() - start)


# --- perturbation -------------------------------------------------------------------------------


def perturb(folder: Path, device: str) -> Figures:
    """One core's time over that of all, with as many photographs a core."""
    from benchmarks.scaling import perturb_s

    cores, each = len(os.sched_getaffinity(0)), 30 if device == "cpu" else 600
    alone, together = perturb_s(1, each), perturb_s(cores, each)
    print(f"{each} photographs a core: {alone:.1f} s on 1 core, {together:.1f} s on {cores}")
    return {"perturb_efficiency": round(alone / together, 3), "perturb_cores": cores}


PARTS = {
    "nodown": Part(nodown, ("train_speedup", "train_data_bound_share"), 130),
    "predict": Part(
        predict_share, ("predict_share", "predict_share_running", "predict_images_per_s"), 170
    ),
    "lora": Part(lora, ("lora_speedup",), 70),
    "ray": Part(ray_train, ("ray_train_s",), 70),
    "perturb": Part(perturb, ("perturb_efficiency", "perturb_cores"), 90),
}


# --- each in a process of its own ---------------------------------------------------------------


def measured(name: str, device: str, limit_s: float) -> tuple[Figures, str]:
    """The figures of a part, and why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, "--device", device]
        said = Path(folder, "said")
        with said.open("w") as sink:
            process = subprocess.Popen(
                [*command, "--folder", folder],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
                start_new_session=True,
                env=os.environ | {"RAY_AUTH_MODE": "disabled"},
            )
            try:
                out, _ = process.communicate(timeout=limit_s)
                why = "" if process.returncode == 0 else f"ended with code {process.returncode}"
            except subprocess.TimeoutExpired:
                out, why = "", f"took more than {limit_s:.0f} s"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what it started, too
                process.wait()
        lines = out.strip().splitlines()
        print("\n".join(lines if why else lines[:-1]), flush=True)
        if why:
            tail = " ".join(said.read_text(errors="replace").split())[-_TAIL:]
            return {}, f"{why}: {tail}" if tail else why
        return dict(json.loads(lines[-1])), ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts alone")
    parser.add_argument("--stand-in", action="store_true", help="on the CPU, to try it")
    for name in ("--part", "--device", "--folder"):  # of a process that does one
        parser.add_argument(name, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(PARTS[given.part].work(Path(given.folder), given.device)))
        return
    import torch

    figures: Figures = {name: None for part in PARTS.values() for name in part.figures}
    failed: dict[str, str] = {}
    if not (torch.cuda.is_available() or given.stand_in):
        print("no GPU here: all figures are null")
    else:
        device, patience = ("cpu", 3) if given.stand_in else ("cuda", 1)
        end = time.monotonic() + _WHOLE_S * patience
        for name in given.only or PARTS:
            start = time.monotonic()
            print(f"{name} …", flush=True)
            limit_s = min(PARTS[name].limit_s * patience, end - start)
            found, why = measured(name, device, max(limit_s, 1.0))
            figures |= found
            if why:
                failed[name] = why
            print(f"{name}: {why or found}, {time.monotonic() - start:.0f} s", flush=True)
    print(json.dumps({**figures, "failed": failed}))


if __name__ == "__main__":
    main()
