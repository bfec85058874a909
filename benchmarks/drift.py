"""Is a planted shift found in a day of 1,000 images, and how often is there a false alarm?

    python benchmarks/drift.py [--quick] [--detector DIR] [--images REALSET] [--kept FILE.npz]

Images: squares of 128 px, at most 24 a picture and none over another, of the real photographs
and the generated images of a folder `real/SOURCE/*`, `synthetic/FAMILY/*` (../shared/realset). A
small detector scores each once as it is and once under each shift: a logistic regression on the
spectra of squares, fitted to a quarter of the pictures, which take no further part; `--detector`
takes another, seen at 128 px. Shifts:

- jpeg: compressed again at quality 60, and at 85
- half: the picture made half as large before squares are cut (of pictures large enough)
- generator: all that is synthetic comes of one newer family, of which neither the detector nor the
  reference has seen any

Each day is drawn by its own seed: 1,000 squares, of which 30 % are synthetic. All that it leaves is
the reference: a calibration set with its own Platt calibration, and earlier days with the day's
share of synthetic ones, each square once. Both share no square, but pictures. Under a shift there
may be fewer squares than are drawn; then some come twice. All counts have one format and size: only
the scores can tell. A day counts as found where `imaginet drift` would leave with code 3. The last
line is JSON.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from rayapp.dataset.images import ImageError, decode
from rayapp.drift.differences import ALL_LOGITS, BEFORE, compare_days
from rayapp.drift.verdict import NO_DRIFT, outcome
from rayapp.metrics.traffic import Traffic
from rayapp.models.calibration.calibrators import fit
from rayapp.models.detector import Detector
from rayapp.models.folder import load_detector

SIDE, MOST_SQUARES, LEAST_SPREAD = 128, 24, 4.0
DAYS, QUICK_DAYS, NUM, SHARE = 100, 10, 1000, 0.3
NEW = ("Infinity", "Kandinsky", "Kolors", "SD2", "SDXL-and-derivatives")
FITTED_TO = 4  # the detector to every fourth picture
PENALTY = 1e-2
FIGURES = ("found", "from_calibration", "from_days_before", "effect_calibration", "effect_days")
QUALITIES = (60, 85)
SHARED = Path(__file__).resolve().parents[2] / "shared"
Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Score = Callable[[Sequence[Pixels]], list[float]]


@dataclass(frozen=True)
class Scored:
    """Logits of all squares under one condition, with their family; `real` is one too."""

    logits: Floats
    families: NDArray[np.str_]

    def of(self, real: bool) -> NDArray[np.int64]:
        """Places of the real squares, or of those of the known families."""
        known = ~np.isin(self.families, NEW)
        return np.flatnonzero(((self.families == "real") == real) & known)


@dataclass(frozen=True)
class Found:
    """What drift says of a day."""

    drift: bool
    from_calibration: bool
    from_days_before: bool
    effects: Mapping[str, float]


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


def spectra(square: Pixels) -> Floats:
    """Logarithms of power by distance from the spectrum's middle, of each channel [96]."""
    planes = cv2.cvtColor(square, cv2.COLOR_RGB2YCrCb).astype(np.float64)
    window = np.hanning(SIDE)[:, None] * np.hanning(SIDE)[None]
    power = np.abs(np.fft.fft2(planes * window[..., None], axes=(0, 1))) ** 2
    steps = np.abs(np.fft.fftfreq(SIDE) * SIDE)
    ring = np.minimum(np.hypot(steps[:, None], steps[None]) // 2, 31).astype(int).ravel()
    rings = [np.bincount(ring, power[..., c].ravel()) / np.bincount(ring) for c in range(3)]
    return np.log(np.concatenate(rings) + 1.0)


def fitted(squares_of: Sequence[Sequence[Pixels]], origins: Sequence[int]) -> Score:
    """A logistic regression on spectra, with a penalty on large weights."""
    x = np.array([spectra(one) for cut in squares_of for one in cut])
    y = np.repeat(origins, [len(cut) for cut in squares_of]).astype(np.float64)
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    x = np.column_stack([(x - mean) / spread, np.ones(len(x))])
    each = np.where(y == 1, 0.5 / y.sum(), 0.5 / (len(y) - y.sum()))

    def loss(weights: Floats) -> tuple[float, Floats]:
        z = x @ weights
        gaps = each * (special.expit(z) - y)
        penalty = PENALTY * np.append(weights[:-1], 0.0)
        value = float(each @ (np.logaddexp(0, z) - y * z) + penalty @ weights / 2)
        return value, x.T @ gaps + penalty

    best = optimize.minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x

    def score_all(cut: Sequence[Pixels]) -> list[float]:
        rows = (np.array([spectra(one) for one in cut]) - mean) / spread
        return list(rows @ best[:-1] + best[-1])

    return score_all


def loaded(uri: str) -> Score:
    """A detector of a folder, seen at the side of a square; its calibration is fitted each day."""
    stored = load_detector(uri)
    bare = stored.spec.model_copy(update={"calibration": None})
    detector = Detector(stored.network, bare).seen_as("centre", SIDE)
    return lambda cut: detector.logits(list(cut)).tolist()


def score(folder: Path, detector_uri: str | None, quick: bool) -> dict[str, Scored]:
    """Every square once under each condition."""
    every = [(family, pixels) for family, pixels in pictures(folder)]
    every = every[:: 2 if quick else 1]
    mine = [one for one in every[::FITTED_TO] if one[0] not in NEW]
    left = [one for at, one in enumerate(every) if at % FITTED_TO or one[0] in NEW]
    if detector_uri:
        detector = loaded(detector_uri)
    else:
        origins = [int(family != "real") for family, _ in mine]
        detector = fitted([squares(pixels) for _, pixels in mine], origins)
    logits: dict[str, list[float]] = defaultdict(list)
    families: dict[str, list[str]] = defaultdict(list)
    for family, pixels in left:
        plain = squares(pixels)
        conditions = {"plain": plain, "half": squares(halved(pixels))}
        conditions |= {f"jpeg {q}": [compressed(one, q) for one in plain] for q in QUALITIES}
        for name, cut in conditions.items():
            if cut:
                logits[name] += detector(cut)
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


def one_day(scored: Mapping[str, Scored], condition: str, new: str, seed: int) -> Found:
    """Whether a day is found to drift, from what, and how far."""
    rng = np.random.default_rng(seed)
    plain, today = scored["plain"], scored[condition]
    num_synthetic = round(NUM * SHARE)
    wanted = {True: NUM - num_synthetic, False: num_synthetic}
    reference, rest = {}, {}
    for real, num in wanted.items():
        mine = rng.permutation(plain.of(real))
        rest[real], reference[real] = mine[:num], mine[num:]
    if len(today.logits) != len(plain.logits):  # other squares than those of the reference
        rest = {real: today.of(real) for real in wanted}
    if new:
        rest[False] = np.flatnonzero(plain.families == new)
    reals, synthetics = (plain.logits[reference[real]] for real in (True, False))
    labels = np.repeat([0, 1], [len(reals), len(synthetics)])
    bias, slope = _line(np.append(reals, synthetics), labels)
    threshold = -bias / slope
    day = [today.logits[drawn(rng, rest[real], num)] for real, num in wanted.items()]
    scale = min(len(reference[real]) / num for real, num in wanted.items())  # each square once
    before = [plain.logits[reference[real][: int(num * scale)]] for real, num in wanted.items()]
    counts = counted(np.concatenate(day), threshold).whole()
    classes = [counted(one, threshold).whole() for one in (reals, synthetics)]
    days = counted(np.concatenate(before), threshold).whole()
    found = compare_days(counts, classes, seed, same_decisions=True, other=days)
    return Found(
        outcome(found, None) != NO_DRIFT,
        found.scores_shift,
        found.scores_changed,
        {one.name: one.effect for one in found.shifts},
    )


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
    parser.add_argument("--detector", help="folder; a small one is fitted if none")
    parser.add_argument("--images", type=Path, default=SHARED / "realset")
    parser.add_argument("--kept", type=Path, help="scores, made once")
    options = parser.parse_args()
    began = time.monotonic()
    scored = kept(options.kept, options)
    plain = scored["plain"]
    names, numbers = np.unique(plain.families, return_counts=True)
    sizes = dict(zip(names.tolist(), numbers.tolist(), strict=True))
    real, known = (plain.logits[plain.of(one)] for one in (True, False))
    auc = float(np.mean(known[:, None] > real[None]))
    print(f"{len(real):,} squares of photographs, {len(known):,} of known families, AUC {auc:.3f}")
    conditions = [("plain", ""), *((f"jpeg {q}", "") for q in QUALITIES), ("half", "")]
    conditions += [("plain", family) for family in NEW if sizes.get(family)]
    days = QUICK_DAYS if options.quick else DAYS
    figures: dict[str, dict[str, float]] = {}
    print(f"{'planted':<30} {'squares':>7} {'found':>6}   {'of it from':<24} {'effect on':<20}")
    print(f"{'':<46} {'calibration':>12} {'days before':>12} {'mixture':>9} {'days':>9}")
    for condition, family in conditions:
        found = [one_day(scored, condition, family, seed) for seed in range(days)]
        name = f"generator {family}" if family else condition.replace("plain", "none")
        there = sizes[family] if family else len(scored[condition].logits)
        shares = [
            float(np.mean([getattr(one, field) for one in found]))
            for field in ("drift", "from_calibration", "from_days_before")
        ]
        effects = [
            float(np.median([one.effects[of] for one in found]))
            for of in (ALL_LOGITS, f"{ALL_LOGITS}{BEFORE}")
        ]
        figures[name] = dict(zip(FIGURES, (round(v, 3) for v in (*shares, *effects)), strict=True))
        print(
            f"{name:<30} {there:>7,} {shares[0]:>6.0%}   {shares[1]:>12.0%} {shares[2]:>12.0%} "
            f"{effects[0]:>9.3f} {effects[1]:>9.3f}"
        )
    seconds = round(time.monotonic() - began, 1)
    print(
        json.dumps(
            {
                "days": days,
                "images_a_day": NUM,
                "auc": round(auc, 3),
                "found": figures,
                "seconds": seconds,
            }
        )
    )


if __name__ == "__main__":
    main()
