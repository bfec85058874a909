"""What `predict --stability web` costs: an image with its deliveries against the image alone.

    python -m benchmarks.stability [--photos FOLDER] [--device cuda] [--quick]

Photographs are decoded, seen and scored by a network as large as that of `commfor` (ViT-S/16 at 384
px, random weights), alone and with the four deliveries of `configs/perturbations/deliveries.yaml`,
in turns: the least time of each, and the ratio `stability_cost`; beside it the ratio of the part
before the network (decoding, making the deliveries, cutting views), that of the network, and how
many inputs an image has: one that is the same to the bit as another is scored once. On a CPU one
thread's processor time counts; on a GPU (`--device cuda`, bf16) wall time does, with the part
before the network on all cores, as predict has it.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.declared import PHOTOS, files, vit_small
from rayapp.dataset.images import decode
from rayapp.models.delivered import Deliveries
from rayapp.predict.deliveries import SeenDelivered, see_delivered
from rayapp.predict.score import Scorer, make_scorer

NUM, QUICK = 32, 6
ROUNDS, QUICK_ROUNDS = 5, 2


def seen_of(scorer: Scorer, data: bytes, deliveries: Deliveries | None) -> SeenDelivered:
    """What predict keeps of one file."""
    if deliveries is None:
        image = decode(data, part=scorer.looks_at)
        return SeenDelivered(scorer.see(image.pixels_HWC, (image.height, image.width)))
    return see_delivered(scorer, decode(data).pixels_HWC, deliveries, str(len(data)))


def measured(
    scorer: Scorer, photos: Sequence[bytes], deliveries: Deliveries | None, device: str
) -> tuple[float, float, float]:
    """Time an image (ms), in all and before the network; inputs of the network an image."""
    clock, threads = (time.process_time, 1) if device == "cpu" else (time.perf_counter, _cores())
    start = clock()
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda data: seen_of(scorer, data, deliveries), photos))
    before = clock() - start
    inputs = [one for image in found for one in image.each]
    scorer.scored(inputs)
    scale = 1000 / len(photos)
    return (clock() - start) * scale, before * scale, len(inputs) / len(photos)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, default=PHOTOS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    photos = files(options.photos)
    photos = photos[:: max(1, len(photos) // (QUICK if options.quick else NUM))]
    torch.set_num_threads(1)
    on_gpu = options.device == "cuda"
    scorer = make_scorer(vit_small().to(options.device), bf16=on_gpu)
    alone, with_others = [], []
    for _ in range(QUICK_ROUNDS if options.quick else ROUNDS):
        alone.append(measured(scorer, photos, None, options.device))
        with_others.append(measured(scorer, photos, Deliveries.load(), options.device))
    one, five = min(alone), min(with_others)
    for name, (whole, before, inputs) in (("alone", one), ("with deliveries", five)):
        print(
            f"{name:16} {whole:8.1f} ms an image: {before:7.1f} before the network, "
            f"{whole - before:7.1f} in it, {inputs:.2f} inputs"
        )
    figures = {
        "stability_cost": five[0] / one[0],
        "stability_cost_before_network": five[1] / one[1],
        "stability_cost_network": (five[0] - five[1]) / (one[0] - one[1]),
        "inputs_an_image": five[2],
        "device": options.device,
    }
    rounded = {k: round(v, 2) if isinstance(v, float) else v for k, v in figures.items()}
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
