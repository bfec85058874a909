"""Is a planted shift found in a day of 1,000 images, and how often is there a false alarm?

    python benchmarks/drift.py [--quick] [--detector DIR] [--images REALSET] [--kept FILE.npz]

Images: squares of 128 px, at most twelve a picture and none over another, of the real photographs
and the generated images of a folder `real/SOURCE/*`, `synthetic/FAMILY/*` (../shared/realset), that
a small detector (the demo's, seen at 128 px) scores once as they are and once under each shift:

- jpeg: compressed again at quality 60, and at 85
- half: the picture made half as large before squares are cut (of pictures large enough)
- generator: all that is synthetic comes of a family that the reference does not have

Each day is drawn by its own seed: the squares are divided into two halves at random, of one half
the reference is drawn (a calibration set of 1,000 real and 1,000 synthetic squares, its Platt
calibration fitted to them), of the other the day, 1,000 squares of which 30 % are synthetic. The
halves share no square, but pictures. Under a shift fewer squares may be there than are drawn; then
some come twice. All counts have one format and size: only the scores can tell. A day counts as
found where `imaginet drift` would leave with code 3. Compared is against the calibration, whose
share of synthetic images is another, and against two earlier days (2,000 images with the day's
share). The last line is JSON.
"""

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rayapp.dataset.images import ImageError, decode
from rayapp.drift.differences import compare_days
from rayapp.drift.verdict import NO_DRIFT, outcome
from rayapp.metrics.traffic import Traffic
from rayapp.models.calibration.calibrators import fit
from rayapp.models.folder import load_detector

SIDE, MOST_SQUARES, LEAST_SPREAD = 128, 12, 4.0
DAYS, QUICK_DAYS, NUM, SHARE = 100, 10, 1000, 0.3
NUM_CLASS, NUM_BEFORE = 1000, 2000
LEAST_OF_A_FAMILY = 150  # squares, to be a new generator
QUALITIES = (60, 85)
SHARED = Path(__file__).resolve().parents[2] / "shared"
Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Scored:
    """Logits of all squares under one condition, with their family; `real` is one too."""

    logits: Floats
    families: NDArray[np.str_]

    def of(self, real: bool) -> NDArray[np.int64]:
        """Places of the real squares, or of the others."""
        return np.flatnonzero((self.families == "real") == real)


def pictures(folder: Path) -> Iterator[tuple[str, Pixels]]:
    """Family and pixels of each picture."""
    for path in sorted(folder.glob("*/*/*")):
        family = "real" if path.parts[-3] == "real" else path.parts[-2]
        try:
            yield family, decode(path.read_bytes()).pixels_HWC
        except ImageError:
            continue


def squares(pixels: Pixels) -> list[Pixels]:
    """Squares of a picture, spread over it, but those without anything on them."""
    height, width = pixels.shape[:2]
    places = [
        (top, left)
        for top in range(0, height - SIDE + 1, SIDE)
        for left in range(0, width - SIDE + 1, SIDE)
    ]
    some = np.linspace(0, len(places) - 1, min(len(places), MOST_SQUARES)).round().astype(int)
    cut = [
        pixels[top : top + SIDE, left : left + SIDE]
        for top, left in (places[at] for at in dict.fromkeys(some.tolist()))
    ]
    return [np.ascontiguousarray(one) for one in cut if one.std() > LEAST_SPREAD]


def compressed(square: Pixels, quality: int) -> Pixels:
    data = cv2.imencode(".jpg", square[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    opened = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(opened[..., ::-1])


def halved(pixels: Pixels) -> Pixels:
    height, width = (side // 2 for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def score(folder: Path, detector_uri: str, quick: bool) -> dict[str, Scored]:
    """Every square once under each condition."""
    detector = load_detector(detector_uri).seen_as("centre", SIDE)
    logits: dict[str, list[float]] = defaultdict(list)
    families: dict[str, list[str]] = defaultdict(list)
    for number, (family, pixels) in enumerate(pictures(folder)):
        if quick and number % 2:
            continue
        plain = squares(pixels)
        conditions = {"plain": plain, "half": squares(halved(pixels))}
        conditions |= {f"jpeg {q}": [compressed(one, q) for one in plain] for q in QUALITIES}
        for name, cut in conditions.items():
            if cut:
                logits[name] += detector.logits(cut).tolist()
                families[name] += [family] * len(cut)
    return {
        name: Scored(np.array(logits[name], np.float64), np.array(families[name]))
        for name in logits
    }


def drawn(rng: np.random.Generator, among: NDArray[np.int64], num: int) -> NDArray[np.int64]:
    """So many, each once where there are enough."""
    return rng.choice(among, num, replace=len(among) < num)


def counted(logits: Floats, threshold: float) -> Traffic:
    traffic = Traffic("d", "c")
    for logit in logits:
        word = "synthetic" if logit >= threshold else "real"
        row = {"logit": float(logit), "verdict": word, "format": "JPEG", "width": SIDE}
        traffic.add(row | {"height": SIDE}, "2026-11-29")
    return traffic


def one_day(
    scored: Mapping[str, Scored], condition: str, new: str, seed: int
) -> tuple[bool, bool, float]:
    """Whether a day is found to drift from the calibration, and from earlier days; and how far."""
    rng = np.random.default_rng(seed)
    plain = scored["plain"]
    reference: dict[bool, NDArray[np.int64]] = {}
    rest: dict[bool, NDArray[np.int64]] = {}
    for real in (True, False):
        mine = rng.permutation(plain.of(real))
        if not real:
            mine = mine[plain.families[mine] != new]
        reference[real], rest[real] = mine[: len(mine) // 2], mine[len(mine) // 2 :]
    today = scored.get(condition, plain)
    if condition != "plain" and condition in scored:
        rest = {real: today.of(real) for real in (True, False)}
        if len(today.logits) == len(plain.logits):  # the same squares: those of the other half
            rest = {real: np.setdiff1d(rest[real], reference[real]) for real in rest}
    if new:
        rest[False] = np.flatnonzero(plain.families == new)
    reals, synthetics = (plain.logits[drawn(rng, reference[r], NUM_CLASS)] for r in (True, False))
    labels = np.repeat([0, 1], NUM_CLASS)
    bias, slope = _line(np.append(reals, synthetics), labels)
    threshold = -bias / slope
    num_synthetic = round(NUM * SHARE)
    wanted = ((True, NUM - num_synthetic), (False, num_synthetic))
    day = np.concatenate([today.logits[drawn(rng, rest[r], num)] for r, num in wanted])
    before = np.concatenate(
        [plain.logits[drawn(rng, reference[r], num * NUM_BEFORE // NUM)] for r, num in wanted]
    )
    counts = counted(day, threshold).whole()
    classes = [counted(one, threshold).whole() for one in (reals, synthetics)]
    found = [
        compare_days(counts, against, seed, same_decisions=True)
        for against in (classes, [counted(before, threshold).whole()])
    ]
    words = [outcome(one, None) != NO_DRIFT for one in found]
    return words[0], words[1], found[0].shifts[0].effect


def _line(logits: Floats, labels: NDArray[np.int64]) -> tuple[float, float]:
    parameters = fit("platt", logits, labels).parameters
    bias, slope = parameters["bias"], parameters["slope"]
    assert isinstance(bias, float)
    assert isinstance(slope, float)
    return bias, slope


def kept(path: Path | None, make: argparse.Namespace) -> dict[str, Scored]:
    """The scores of a file, or made and kept there."""
    if path and path.exists():
        with np.load(path) as file:
            names = {name.rpartition("|")[0] for name in file}
            return {n: Scored(file[f"{n}|logits"], file[f"{n}|families"]) for n in names}
    scored = score(make.images, make.detector, make.quick)
    if path:
        arrays: dict[str, Any] = {f"{n}|logits": one.logits for n, one in scored.items()}
        arrays |= {f"{n}|families": one.families for n, one in scored.items()}
        np.savez(path, **arrays)
    return scored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every other picture, ten days")
    parser.add_argument("--detector", default=os.environ.get("DETECTOR", "runs/demo/detector"))
    parser.add_argument("--images", type=Path, default=SHARED / "realset")
    parser.add_argument("--kept", type=Path, help="scores, made once")
    options = parser.parse_args()
    began = time.monotonic()
    scored = kept(options.kept, options)
    plain = scored["plain"]
    names, numbers = np.unique(plain.families, return_counts=True)
    sizes = dict(zip(names.tolist(), numbers.tolist(), strict=True))
    print(f"{sum(sizes.values()):,} squares, {sizes['real']:,} of them real photographs")
    new = [n for n, num in sizes.items() if n != "real" and num >= LEAST_OF_A_FAMILY]
    conditions = [("plain", ""), *((f"jpeg {q}", "") for q in QUALITIES), ("half", "")]
    conditions += [("generator", family) for family in new]
    days = QUICK_DAYS if options.quick else DAYS
    figures: dict[str, dict[str, float]] = {}
    print(f"{'planted':<36} {'squares':>7} {'calibration':>12} {'days before':>12} {'effect':>7}")
    for condition, family in conditions:
        found = [one_day(scored, condition, family, seed) for seed in range(days)]
        name = f"{condition} {family}".strip() if family else condition
        there = sizes[family] if family else len(scored[condition].logits)
        shares = np.mean([one[:2] for one in found], axis=0)
        effect = float(np.median([one[2] for one in found]))
        figures[name] = {
            "against_calibration": round(float(shares[0]), 3),
            "against_days_before": round(float(shares[1]), 3),
            "effect": round(effect, 3),
        }
        print(f"{name:<36} {there:>7,} {shares[0]:>12.0%} {shares[1]:>12.0%} {effect:>7.3f}")
    seconds = round(time.monotonic() - began, 1)
    print(json.dumps({"days": days, "images_a_day": NUM, "found": figures, "seconds": seconds}))


if __name__ == "__main__":
    main()
