"""What can be expected on real photographs and real generators, by a frozen CLIP and by detectors.

    python benchmarks/real.py REALSET --backbone-weights FILE [--detectors A B] [--quick]

REALSET holds `real/SOURCE/*` and `synthetic/FAMILY/*` (docs/real.md). A linear probe of frozen
features is judged on what it never saw: a family of generators, a source of real images, half of
the generators. Every figure is given with both classes brought to one format and size (perturbation
`equalise`) and as the files are, on clean images and on `web` and `hard` ones. Features are kept in
--features: what is there is not made again.
"""

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.real_features import CONDITIONS, Condition, FrozenFeatures, pixels_of, source_of
from benchmarks.real_folds import Fold, half_against_half, judge, leave_family_out, leave_source_out
from benchmarks.real_judge import Pairs
from benchmarks.real_page import (
    ALIGNED,
    HALF,
    LEAVE_FAMILY_OUT,
    LEAVE_SOURCE_OUT,
    TITLES,
    Result,
    Views,
    lines,
    page,
)
from benchmarks.real_partners import Partners, Photographs, judge_aligned, partner_features
from benchmarks.real_set import RealSet, read_real_set
from rayapp.config.errors import UserError
from rayapp.dataset.images import sha256
from rayapp.run.progress import Progress

if TYPE_CHECKING:
    from rayapp.models.detector import Detector

_QUICK = 4, 2  # images of a source, of a family


def probe_results(
    pictures: RealSet,
    features: FrozenFeatures,
    conditions: Sequence[Condition],
    aligned: tuple[Photographs, Partners] | None,
) -> Iterator[Result]:
    """The probe by every way of leaving out, trained on clean images, judged on each condition."""
    files = pictures.files
    known = [
        (f, sha256(f.read_bytes()), p.path) for f, p in zip(files, pictures.pictures, strict=True)
    ]

    def seen(one: Condition) -> NDArray[np.float32]:
        return features.of([source_of(*image, one) for image in known], f"features, {one.title}")

    found = {one: seen(one) for one in conditions}
    folds: dict[str, list[Fold]] = {
        LEAVE_FAMILY_OUT: list(leave_family_out(pictures)),
        LEAVE_SOURCE_OUT: list(leave_source_out(pictures)),
        HALF: list(half_against_half(pictures)),
    }
    for equalised in dict.fromkeys(one.equalised for one in conditions):
        judged = {one.level: f for one, f in found.items() if one.equalised == equalised}
        for way, several in folds.items():
            pairs = judge(pictures, several, judged["clean"], judged)
            for level, one in pairs.items():
                yield Result(way, Condition(level, equalised), one)
        if aligned:
            both = partner_features(*aligned, equalised, features)
            pairs = judge_aligned(pictures, aligned[0], both, judged)
            for level, one in pairs.items():
                yield Result(ALIGNED, Condition(level, equalised), one)


def detector_results(
    pictures: RealSet, uris: Sequence[str], conditions: Sequence[Condition]
) -> Iterator[Result]:
    """Each detector as it is, on every condition; called synthetic by its own calibration."""
    from scipy.special import expit

    from rayapp import load_detector

    synthetic = np.flatnonzero(pictures.origins_N == 1)
    real = np.flatnonzero(pictures.origins_N == 0)
    for uri in uris:
        detector = load_detector(uri)
        calibration = detector.spec.calibration
        for condition in conditions:
            logits = _logits(detector, pictures, condition, f"{uri}, {condition.title}")
            called = expit(logits) >= 0.5
            if calibration:
                called = calibration.apply(logits) >= calibration.threshold
            pairs = Pairs.empty(len(synthetic), len(real))
            scores = logits[synthetic], logits[real]
            pairs.judge(np.arange(len(synthetic)), np.arange(len(real)), *scores, 0.0)
            right = 1.0 * called[synthetic][:, None] + ~called[real][None]
            yield Result(uri, condition, Pairs(pairs.higher_SR, right / 2))


def _logits(
    detector: "Detector", pictures: RealSet, condition: Condition, title: str
) -> NDArray[np.float64]:
    logits = np.empty(len(pictures.pictures))
    with Progress(title, len(logits), unit="images") as progress:
        for at, (file, picture) in enumerate(zip(pictures.files, pictures.pictures, strict=True)):
            pixels = pixels_of(file.read_bytes(), picture.path)
            logits[at] = detector.logits([condition.apply(pixels, picture.path)])[0]
            progress.update()
    return logits


def figures_of(pictures: RealSet, results: Sequence[Result]) -> dict[str, float | None]:
    """Every figure by name, for the last line; those of detectors are on the page."""
    found: dict[str, float | None] = {f"{ALIGNED}_roc_auc": None}
    for one in results:
        if one.way not in TITLES:
            continue
        views = Views(pictures, one.pairs)
        suffix = "" if one.condition.level == "clean" else f"_{one.condition.level}"
        suffix += "" if one.condition.equalised else "_as_stored"
        named = {
            "roc_auc": views.value(one.way, "higher_SR"),
            "balanced_accuracy": views.value(one.way, "right_SR"),
        }
        if worst := views.worst(one.way):
            named["worst_roc_auc"] = worst[1]
        found |= {f"{one.way}_{name}{suffix}": value for name, value in named.items()}
    return {name: None if v is None else round(v, 4) for name, v in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("realset", type=Path, help="folder of real/SOURCE/* and synthetic/FAMILY/*")
    parser.add_argument(
        "--backbone-weights", type=Path, required=True, help="safetensors, CLIP B/16"
    )
    parser.add_argument("--manifest", type=Path, help="CSV; REALSET/manifest.csv where it is there")
    parser.add_argument("--autoencoder", default="taef2", help="name, or YAML file")
    parser.add_argument(
        "--autoencoder-weights",
        type=Path,
        help="folder of its files; REALSET/../weights where it is there, else no pairs are made",
    )
    parser.add_argument(
        "--photographs",
        type=Path,
        help="folder of photographs to reconstruct; the set's other sources and packages' if none",
    )
    parser.add_argument("--detectors", nargs="*", default=[], help="folders of detectors to judge")
    parser.add_argument(
        "--features", type=Path, default=Path("runs/real-features"), help="where they are kept"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/real.html"), help="the page")
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the backbone; auto: bfloat16 where the CPU has it, a third of the time",
    )
    parser.add_argument("--quick", action="store_true", help="few images under one condition")
    asked = parser.parse_args()
    try:
        pictures = read_real_set(asked.realset, asked.manifest)
        for line in pictures.left_out:
            print(f"left out: {line}")
        conditions = CONDITIONS
        if asked.quick:
            pictures = _few(pictures)
            conditions = CONDITIONS[:1]
        features = FrozenFeatures(asked.backbone_weights, asked.features, asked.precision)
        aligned = _aligned(asked, pictures)
        results = list(probe_results(pictures, features, conditions, aligned))
        results += detector_results(pictures, asked.detectors, conditions)
    except UserError as error:
        sys.exit(f"error: {error}")
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    command = f"python benchmarks/real.py {shlex.join(sys.argv[1:])}"
    asked.output.write_text(page(pictures, results, command).html(), encoding="utf-8")
    for line in lines(pictures, results):
        print(line)
    print(f"page: {asked.output}")
    print(json.dumps(figures_of(pictures, results)))


def _aligned(asked: argparse.Namespace, pictures: RealSet) -> tuple[Photographs, Partners] | None:
    """The photographs whose pairs are trained on; None without an autoencoder's weights."""
    beside = asked.realset.resolve().parent / "weights"
    weights = asked.autoencoder_weights or (beside if beside.is_dir() else None)
    if weights is None:
        print("no --autoencoder-weights: nothing is trained on reconstructions")
        return None
    own = Photographs.of_set(pictures)
    photographs = Photographs.of_folder(asked.photographs) if asked.photographs else own
    return photographs, Partners(asked.autoencoder, weights)


def _few(pictures: RealSet) -> RealSet:
    """The first images of each source and family."""
    seen: Counter[tuple[int, str]] = Counter()
    kept = []
    for one in pictures.pictures:
        seen[one.origin, one.kind] += 1
        if seen[one.origin, one.kind] <= _QUICK[one.origin]:
            kept.append(one)
    return RealSet(pictures.folder, kept, pictures.left_out)


if __name__ == "__main__":
    main()
