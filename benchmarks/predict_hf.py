"""A Hugging Face folder through our scoring, beside transformers' own pipeline (--only hf).

ViT-B/16 at 224 px with random weights, half-megapixel JPEGs. The pipeline is one process with all
cores, and has the batch size that was best for it on the first images; ours is one process too, as
predict does 500 images, or with a GPU its one worker. They take turns, 100 images at a time, so
that a busy machine harms both alike. Loading is left out on both sides; reading and decoding the
files are in.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rayapp.config.memory import keep_freed_memory
from rayapp.predict.score_rows import PredictRows, ScorerSpec
from rayapp.predict.sharing import ON_GPU, batch_rows, shared_out
from rayapp.run.concurrency import batches
from rayapp.storage.uris import open_store

SIZE_HW = (612, 816)  # half a megapixel
LABELS = ("human", "ai")
BATCHES = (1, 2, 4, 8, 16, 32)
CHUNK = 100


def measure_hf(folder: Path, quick: bool) -> dict[str, float | None]:
    """How many times the pipeline's rate ours is, and the largest difference of a probability."""
    count = 2 * CHUNK if quick else 500
    paths = lay_out(folder / "images", count)
    save_vit(folder / "vit", layers=2 if quick else 12)
    context = multiprocessing.get_context("spawn")
    ends: dict[str, Connection] = {}
    for way, run in (("pipeline", pipeline_way), ("ours", our_way)):
        ends[way], other = context.Pipe()
        given = (str(folder / "vit"), paths[:CHUNK], other)
        context.Process(target=run, args=given, daemon=True).start()
    batch_sizes = {way: end.recv() for way, end in ends.items()}  # all warm
    seconds, found = in_turns(ends, paths)
    for way, taken in seconds.items():
        print(f"{way:9} {count / taken:6.2f} images/s, batches of {batch_sizes[way]}")
    return {
        "hf_speedup": round(seconds["pipeline"] / seconds["ours"], 3),
        "hf_max_dp": float(np.abs(found["pipeline"] - found["ours"]).max()),
        "hf_images_per_s": round(count / seconds["ours"], 2),
    }


def in_turns(
    ends: dict[str, Connection], paths: Sequence[str]
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Seconds and probabilities of each way, chunk by chunk; who goes first alternates."""
    seconds = dict.fromkeys(ends, 0.0)
    found: dict[str, list[float]] = {way: [] for way in ends}
    for turn, at in enumerate(range(0, len(paths), CHUNK)):
        for way in sorted(ends, reverse=bool(turn % 2)):
            start = time.perf_counter()
            ends[way].send(list(paths[at : at + CHUNK]))
            found[way] += ends[way].recv()
            seconds[way] += time.perf_counter() - start
    for end in ends.values():
        end.send(None)
    return seconds, {way: np.array(values) for way, values in found.items()}


def lay_out(folder: Path, count: int) -> list[str]:
    """JPEGs of clouds with some grain, all different."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    height, width = SIZE_HW
    paths = []
    for number in range(count):
        cells = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        pixels = np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        grainy = pixels + rng.normal(0, 8, (height, width, 1)).astype(np.float32)
        path = folder / f"{number:04}.jpg"
        Image.fromarray(grainy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(str(path))
    return paths


def save_vit(folder: Path, layers: int) -> None:
    """ViT-B/16 as a Hugging Face folder."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    config = ViTConfig(num_hidden_layers=layers, id2label=dict(enumerate(LABELS)))
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor().save_pretrained(folder)


def pipeline_way(folder: str, first: Sequence[str], end: Connection) -> None:
    """The pipeline, at the batch size that is fastest on the first images."""
    from transformers import pipeline

    device = 0 if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(_cores())
    pipe: Any = pipeline("image-classification", model=folder, device=device, dtype="float32")

    def score(paths: Sequence[str], batch_size: int) -> list[float]:
        answers = list(pipe(list(paths), batch_size=batch_size, top_k=len(LABELS)))
        return [next(one["score"] for one in all_ if one["label"] == "ai") for all_ in answers]

    def seconds_an_image(batch_size: int) -> float:
        some = first[: max(16, batch_size)]
        start = time.perf_counter()
        score(some, batch_size)
        return (time.perf_counter() - start) / len(some)

    score(first[:4], 4)
    best = min(BATCHES, key=seconds_an_image)
    _serve(end, best, lambda paths: score(paths, best))


def our_way(folder: str, first: Sequence[str], end: Connection) -> None:
    """What predict does, in float32."""
    keep_freed_memory()
    gpus = 1.0 if torch.cuda.is_available() else 0.0
    threads, at_once = (1, ON_GPU) if gpus else shared_out(_cores(), 1, CHUNK, alone=False)
    root = open_store(os.path.dirname(first[0]))
    work = PredictRows(ScorerSpec(folder, gpus=gpus), root, threads, side_by_side=at_once)
    work.setup()

    def score(paths: Sequence[str]) -> list[float]:
        names = [os.path.basename(path) for path in paths]
        rows = [{"id": name, "path": name, "variant": ""} for name in names]
        done = batches(work, rows, batch_rows(len(rows), at_once), at_once)
        return [1 / (1 + float(np.exp(-row["logit"]))) for some in done for row in some]

    score(first[:16])
    _serve(end, "its own choice", score)


def _serve(
    end: Connection, batch_size: int | str, score: Callable[[Sequence[str]], list[float]]
) -> None:
    end.send(batch_size)
    while (paths := end.recv()) is not None:
        end.send(score(paths))


def _cores() -> int:
    return len(os.sched_getaffinity(0))
