"""What `predict --stability web` costs: an image with its deliveries against the image alone.

    python benchmarks/stability.py [--photos FOLDER] [--quick]

Photographs are decoded, seen and scored by a network as large as that of `commfor` (ViT-S/16 at 384
px, random weights, one thread), alone and with the four deliveries of
`configs/perturbations/deliveries.yaml`, in turns: the least time of each, and the ratio
`stability_cost`. Beside it the part that is not the network's, which the deliveries share least.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.declared import PHOTOS, files, vit_small
from rayapp.dataset.images import decode
from rayapp.predict.deliveries import PERTURBATION, Deliveries, see_whole
from rayapp.predict.score import Scorer, make_scorer
from rayapp.transforms.perturbations import load_perturbation

NUM, QUICK = 32, 6
ROUNDS, QUICK_ROUNDS = 5, 2


def measured(
    scorer: Scorer, photos: Sequence[bytes], deliveries: Deliveries | None
) -> tuple[float, float]:
    """Processor time an image (ms): in all, and before the network."""
    start = time.process_time()
    seen = []
    for number, data in enumerate(photos):
        if deliveries is None:
            image = decode(data, part=scorer.looks_at)
            seen.append(scorer.see(image.pixels_HWC, (image.height, image.width)))
            continue
        pixels_HWC = decode(data).pixels_HWC
        seen.append(see_whole(scorer, pixels_HWC))
        seen += deliveries.see(scorer, pixels_HWC, str(number))
    before = time.process_time() - start
    scorer.score(seen)
    scale = 1000 / len(photos)
    return (time.process_time() - start) * scale, before * scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, default=PHOTOS)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    photos = files(options.photos)
    photos = photos[:: max(1, len(photos) // (QUICK if options.quick else NUM))]
    torch.set_num_threads(1)
    scorer = make_scorer(vit_small(), bf16=False)
    deliveries = Deliveries(load_perturbation(PERTURBATION), 0)
    alone, all_five = [], []
    for _ in range(QUICK_ROUNDS if options.quick else ROUNDS):
        alone.append(measured(scorer, photos, None))
        all_five.append(measured(scorer, photos, deliveries))
    (one, one_before), (five, five_before) = min(alone), min(all_five)
    print(f"alone:           {one:8.1f} ms an image, of it {one_before:.1f} before the network")
    print(f"with deliveries: {five:8.1f} ms an image, of it {five_before:.1f} before the network")
    figures = {
        "stability_cost": round(five / one, 2),
        "stability_cost_before_network": round(five_before / one_before, 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
