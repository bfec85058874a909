"""What files declare: what reading it costs, whether damage does harm, how sure the watermark is.

    python benchmarks/declared.py [--photos FOLDER] [--odd FOLDER] [--quick]

`declared_overhead`: the time that reading what files declare takes, as a share of the time that
predict's work on the same files takes (read, decode, see, score by ViT-S/16 at 384 px in one
thread), measured in turns on photographs. `damaged`: 3,000 files with damaged headers, made of the
odd files by a seed; the longest time and the growth in memory, each file in a process that is
measured. `watermark`: on how many photographs Stable Diffusion's mark is found.
"""

import argparse
import json
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.odd import FOLDER as ODD
from rayapp.config.errors import UserError
from rayapp.dataset.declared import read_declared
from rayapp.dataset.declared.credentials import WHAT
from rayapp.dataset.declared.hidden import MARKS, MOST_P, read_mark
from rayapp.dataset.images import SUFFIXES, ImageError, decode
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings, Preprocessing
from rayapp.models.networks import build_network
from rayapp.predict.score import make_scorer
from tests.dataset.declared.test_damaged import damaged

PHOTOS = Path(__file__).resolve().parents[2] / "shared/realset/real"
NUM_DAMAGED, QUICK_DAMAGED = 3000, 300
NUM_TIMED, QUICK_TIMED = 64, 8
ROUNDS = 5


def files(folder: Path) -> list[bytes]:
    found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(f"{folder}: no images there")
    return [path.read_bytes() for path in found]


def vit_small() -> Detector:
    """A network as large as that of the weights `commfor`, with random weights."""
    architecture = Architecture(
        backbone="vit_small_patch16_384", head=HeadSettings(norm="none", hidden=0)
    )
    network = build_network(architecture).eval()
    backbone = network.encoder.backbone
    spec = DetectorSpec(
        architecture=architecture,
        strides=backbone.strides(),
        preprocessing=Preprocessing(size=384, view="resize"),
    )
    return Detector(network, spec)


def overhead(photos: Sequence[bytes], rounds: int) -> tuple[float, float, float]:
    """Least time an image of reading what is declared and of predict's work (ms), and the ratio."""
    torch.set_num_threads(1)
    scorer = make_scorer(vit_small(), bf16=False)
    reading, working = [], []
    for _ in range(rounds):
        start = time.process_time()
        for data in photos:
            read_declared(data)
        reading.append(time.process_time() - start)
        start = time.process_time()
        for data in photos:
            scorer.score([scorer.see(decode(data).pixels_HWC)])
        working.append(time.process_time() - start)
    least = [1000 * min(one) / len(photos) for one in (reading, working)]
    return least[0], least[1], least[0] / least[1]


def manifest_ms(odd: Sequence[bytes]) -> float:
    """Mean time (ms) of a file with a C2PA manifest, whose signature is checked."""
    times = []
    for data in odd:
        start = time.process_time()
        found = read_declared(data)
        if any(one.what == WHAT for one in found.declarations):
            times.append(time.process_time() - start)
    return 1000 * sum(times) / max(len(times), 1)


def harm(odd: Sequence[bytes], number: int) -> tuple[float, float]:
    """Longest time of a damaged file (ms), and by how much memory grew over all of them (MB)."""
    rng = np.random.default_rng(0)
    for data in odd:
        read_declared(data)  # what is imported and cached on first use
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    longest = 0.0
    for at in range(number):
        data = damaged(odd[at % len(odd)], rng)
        start = time.process_time()
        read_declared(data)
        longest = max(longest, time.process_time() - start)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return 1000 * longest, grown / 1000


def marks(photos: Sequence[bytes]) -> tuple[int, int, float]:
    """Photographs that were read, on how many a mark is found, and the least chance of any."""
    read, found, least = 0, 0, 1.0
    for data in photos:
        try:
            pixels_HWC = decode(data).pixels_HWC
        except ImageError:
            continue
        p = min(read_mark(pixels_HWC, name)[1] for name in MARKS) * len(MARKS)
        read, found, least = read + 1, found + (p <= MOST_P), min(least, p)
    return read, found, least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, default=PHOTOS)
    parser.add_argument("--odd", type=Path, default=ODD)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    photos, odd = files(options.photos), files(options.odd)
    chosen = photos[:: max(1, len(photos) // (QUICK_TIMED if options.quick else NUM_TIMED))]
    longest, grown = harm(odd, QUICK_DAMAGED if options.quick else NUM_DAMAGED)
    print(
        f"damaged files: {longest:.1f} ms at most (bar 50), memory grew by {grown:.1f} MB (bar 50)"
    )
    read, found, least = marks(chosen if options.quick else photos)
    print(f"watermark: found on {found} of {read} photographs; least chance {least:.2g}")
    reading, working, share = overhead(chosen, 2 if options.quick else ROUNDS)
    print(f"declared: {reading:.2f} ms an image, predict's work: {working:.1f} ms ({share:.1%})")
    figures = {
        "declared_overhead": round(share, 6),
        "declared_ms": round(reading, 4),
        "manifest_ms": round(manifest_ms(odd), 2),
        "damaged_ms": round(longest, 1),
        "damaged_mb": round(grown, 1),
        "watermark_found": found,
        "watermark_photographs": read,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
