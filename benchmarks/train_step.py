"""One training step as the product does it, beside a plain loop with the same network and batch.

Plain: float32 (on a GPU with TF32), NCHW, eager. Ours: channels-last, on a GPU bf16 autocast and
torch.compile too. Stage 1 of configs/imaginet-selfcon.yaml: SelfCon through ResNet-50 without
early strides, SGD. Steps of both alternate, and the median counts. With a GPU also: the share of
time that training on tiles waits for data. Command: python benchmarks/train_step.py [--quick]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor

from benchmarks.ingest import mosaics
from rayapp.config.packaged import resource
from rayapp.config.yaml_files import read_yaml
from rayapp.dataset.labels import Item, load_scheme, write_list
from rayapp.jobs.pack import pack
from rayapp.models.lora import add_lora
from rayapp.models.networks import build_network
from rayapp.models.preprocessing import normalise
from rayapp.pack.settings import PackSettings
from rayapp.storage.uris import open_store
from rayapp.train.data.crops import Batch
from rayapp.train.engine import Engine
from rayapp.train.objectives import create_objective, set_trained
from rayapp.train.optimisation import create_optimizer
from rayapp.train.prepare import make_job
from rayapp.train.settings import TrainSettings
from rayapp.train.training_job import Job, RankContext

RECIPE = "imaginet-selfcon"
CROPS_OF_RECIPE = 64e6
CROP_PX = 96
LABELS = ((0, 0, 4, 8), (1, 0, 1, 3), (0, 0, 4, 8), (1, 0, 3, 7))


def job_of(
    folder: Path, num_images: int, batch_size: int, name: str = RECIPE, **changes: Any
) -> Job:
    """A recipe's first stage on a few mosaics, with random weights."""
    recipe, _ = read_yaml(resource("configs", name))
    recipe["stage1"] |= {"batch_size": batch_size, "epochs": 1}
    recipe |= {"annotations": [str(folder / "all.txt")], "root": str(folder), "output": str(folder)}
    recipe |= {"pretrained": False, **changes}
    if not (folder / "all.txt").exists():
        items = []
        for number, pixels in enumerate(mosaics(num_images)):
            cv2.imwrite(str(folder / f"{number}.png"), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
            items.append(Item(f"{number}.png", f"{number}.png", LABELS[number % len(LABELS)]))
        write_list(open_store(folder), "all.txt", items, load_scheme("imaginet"))
    return make_job(TrainSettings.model_validate(recipe))[0]


def batch_of(batch_size: int, crop_px: int = CROP_PX, views: int = 1) -> Batch:
    """Random crops with the labels of a training batch; of an image one, or several views."""
    shape = batch_size, *([views] * (views > 1)), crop_px, crop_px, 3
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    labels = torch.tensor([LABELS[number % len(LABELS)] for number in range(batch_size)])
    return Batch(images, labels, labels[:, 0])


def plain_step(job: Job, device: torch.device) -> Callable[[Batch], Tensor]:
    """A loop as one would write it first."""
    torch.manual_seed(job.settings.seed)
    network = build_network(job.spec.architecture)
    if job.settings.lora:
        add_lora(network.encoder.backbone, job.settings.lora)
    set_trained(network, "stage1")
    objective = create_objective(network, "stage1", job.settings, True).to(device).train()
    optimizer = create_optimizer(objective, job.settings.stage1)

    def step(batch: Batch) -> Tensor:
        inputs = batch.inputs.to(device)
        images = normalise(inputs.flatten(0, inputs.ndim - 4), job.spec.preprocessing).contiguous()
        loss = objective.loss(
            objective(images), batch.labels_N4.to(device), batch.targets_N.to(device)
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step


def compared(
    steps: list[Callable[[Batch], Tensor]], batch: Batch, count: int, device: torch.device
) -> list[float]:
    """Median seconds of each kind of step, done in turns."""

    def timed(step: Callable[[Batch], Tensor]) -> float:
        _wait(device)
        start = time.perf_counter()
        step(batch)
        _wait(device)
        return time.perf_counter() - start

    for step in steps:  # the first steps compile, allocate and choose algorithms
        for _ in range(1 if device.type == "cpu" else 5):
            step(batch)
    rounds = [[timed(step) for step in steps] for _ in range(count)]
    return [statistics.median(kind) for kind in zip(*rounds, strict=True)]


def peak_gib(step: Callable[[Batch], Tensor], batch: Batch) -> float:
    """GPU memory that one step holds at most, beside what was held before it."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step(batch)
    torch.cuda.synchronize()
    return float(torch.cuda.max_memory_allocated() - before) / 2**30


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure_cpu(folder: Path, quick: bool) -> float:
    """How many times as fast as the plain step ours is, on one thread of the CPU."""
    torch.set_num_threads(1)
    size, count = (4, 2) if quick else (16, 5)
    own: dict[str, Any] = {"precision": "fp32", "compile": False, "gpus_per_worker": 0}
    job, device = job_of(folder, 16, 8, **own), torch.device("cpu")
    kinds = [plain_step(job, device), Engine(job).step]
    plain, ours = compared(kinds, batch_of(size), count, device)
    print(f"CPU, batch {size}: plain {plain:.2f} s a step, ours {ours:.2f} s, {plain / ours:.2f} ×")
    return plain / ours


def measure_gpu(folder: Path, quick: bool) -> dict[str, float]:
    """Speed-up and crops a second on the GPU, and the share of time that waits for data."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    device, size = torch.device("cuda"), 200
    processes = max((os.cpu_count() or 2) - 2, 1)
    job = job_of(folder, 16, size, loader_processes=processes)
    engine = Engine(job, RankContext(0, device))
    kinds = [plain_step(job, device), engine.step]
    batch = batch_of(size).pin_memory()
    plain, ours = compared(kinds, batch, 5 if quick else 30, device)
    memory = peak_gib(engine.step, batch)
    rate = size / ours
    share = data_bound_share(folder, job, 20 if quick else 150, device)
    name = torch.cuda.get_device_name()
    print(f"{name}, batch {size}: plain {1e3 * plain:.1f} ms, ours {1e3 * ours:.1f} ms a step")
    print(
        f"{plain / ours:.2f} ×, {rate:,.0f} crops/s, {memory:.1f} GiB of activations and gradients"
    )
    print(f"{RECIPE}: {CROPS_OF_RECIPE / rate / 3600:.1f} h for 64 million crops")
    print(f"waits for data {100 * share:.1f} % of the time, {processes} processes reading tiles")
    return {
        "gpu_speedup": round(plain / ours, 2),
        "gpu_crops_per_s": round(rate),
        "gpu_data_bound_share": round(share, 4),
    }


def data_bound_share(folder: Path, job: Job, num_steps: int, device: torch.device) -> float:
    """Share of a second epoch's time in which the GPU waits for crops from a tile store."""
    store = folder / "tiles"
    pack(PackSettings(annotations=(str(folder / "all.txt"),), root=str(folder), output=str(store)))
    stage = job.stages[0]
    count = num_steps * stage.settings.batch_size
    items = [
        replace(stage.items[number % len(stage.items)], id=str(number)) for number in range(count)
    ]
    settings = job.settings.model_copy(update={"root": str(store)})
    epochs = stage.settings.model_copy(update={"epochs": 2})
    stage = replace(stage, items=items, settings=epochs)
    engine = Engine(replace(job, settings=settings, stages=(stage,)), RankContext(0, device))
    # The first epoch compiles and starts the reading processes.
    return float([figures["data_wait_share"] for figures in engine.epochs()][-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps, under a minute")
    quick = parser.parse_args().quick
    figures: dict[str, float | None] = {"gpu_speedup": None, "gpu_data_bound_share": None}
    with tempfile.TemporaryDirectory() as name:
        figures["cpu_speedup"] = round(measure_cpu(Path(name), quick), 3)
        if torch.cuda.is_available():
            figures |= measure_gpu(Path(name), quick)
        else:
            print("no GPU here: its figures are null")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
