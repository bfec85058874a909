"""Milliseconds a view, and memory, of every detector of the zoo, on this machine's GPU or CPU.

Random weights: time does not depend on them. Each detector sees views of its own size; networks
without early down-sampling also of 448 px, for which table 6 of the ImagiNet paper (arXiv
2407.20020) gives times on an RTX 4090: Grag2021 24.30 ms, Corvi2022 49.53, Wu2023 (here `lasted`)
16.01, ImagiNet 25.10. Each detector in a process of its own, in three ways:

published  the network as it is: float32 (on a GPU with TF32, torch's default for convolutions),
           channels first, one view at a time, eager
exact      as jobs/predict.py --precision exact: float32 without TF32, layers fused, in batches
bf16       as jobs/predict.py --precision bf16
compiled   with --compile: as jobs/predict.py --precision bf16 --compile

Memory: what bf16 holds at most on the GPU, weights included; on a CPU all that the process held.
Command: python benchmarks/zoo.py [--quick] [--compile] [--only DETECTOR ...]
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

import numpy as np
import torch

from rayapp.config.packaged import resource as shipped
from rayapp.config.yaml_files import read_yaml
from rayapp.models.backbones import HIGHPASS_SMALL
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import LAYOUTS, Architecture, HeadSettings, Preprocessing
from rayapp.models.networks import build_scorer
from rayapp.models.preprocessing import Pixels, normalise
from rayapp.predict.score import NetworkScorer

WAYS = "published", "exact", "bf16", "compiled"
PROBES = "probe-dinov3", "probe-pe"
OF_PAPER, PAPER_PX = ("imaginet", "grag2021", "corvi2022"), 448
VIEWS, PUBLISHED_VIEWS, CHECKED = 128, 16, 2
Figures = dict[str, float]
Layout = tuple[Architecture, Preprocessing]


def zoo() -> dict[str, Layout]:
    """Every detector by name; those of one layout together."""
    layouts = dict(LAYOUTS)
    for name in PROBES:
        recipe, _ = read_yaml(shipped("configs", name))
        architecture = Architecture.model_validate(recipe["architecture"])
        layouts[name] = architecture, Preprocessing(size=recipe["view_size"])
    small = Architecture(backbone=HIGHPASS_SMALL, head=HeadSettings(norm="none", hidden=0))
    layouts["demo"] = small, Preprocessing(size=256)
    for name in OF_PAPER:
        architecture, seen = LAYOUTS[name]
        layouts[f"{name}@{PAPER_PX}"] = architecture, seen.seen_as(seen.view, PAPER_PX)
    together: dict[str, list[str]] = {}
    for name, layout in layouts.items():
        together.setdefault(repr(layout), []).append(name)
    return {" ".join(names): layouts[names[0]] for names in together.values()}


def fresh(layout: Layout) -> Detector:
    """The detector with random weights, on the GPU if there is one."""
    architecture, seen = layout
    torch.manual_seed(0)
    network = build_scorer(architecture).eval()
    strides = network.backbones[0].strides()
    spec = DetectorSpec(architecture=architecture, strides=strides, preprocessing=seen)
    return Detector(network, spec).to("cuda" if torch.cuda.is_available() else "cpu")


def measure(layout: Layout, ways: Sequence[str], num_views: int, end: Connection) -> None:
    """Sends the figures of each way: milliseconds, the batch, MB; then a detector's CPU check."""
    detector = fresh(layout)
    size = detector.spec.preprocessing.size
    views = np.random.default_rng(0).integers(0, 256, (num_views, size, size, 3), dtype=np.uint8)
    on_gpu = torch.cuda.is_available()
    found: dict[str, Figures] = {}
    for way in ways:
        if on_gpu:
            torch.cuda.empty_cache()
        score, at_once = _scored(detector, way)
        some = views[: PUBLISHED_VIEWS if at_once == 1 else max(num_views // at_once, 1) * at_once]
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()  # not what choosing the batch took
        score(some[:at_once])
        score(some[:1])
        found[way] = {
            "ms": 1e3 * min(_seconds(score, some) for _ in range(2)) / len(some),
            "ms_alone": 1e3 * statistics.median(_seconds(score, some[:1]) for _ in range(5)),
            "at_once": at_once,
            "peak_mb": torch.cuda.max_memory_allocated() / 1e6 if on_gpu else _resident_mb(),
        }
        if way == "exact":
            logits = score(views[:CHECKED])
        del score
    if on_gpu:
        found["exact"]["cpu_change"] = _cpu_change(detector, views[:CHECKED], logits)
    end.send(found)


def _scored(detector: Detector, way: str) -> tuple[Callable[[Pixels], list[float]], int]:
    """Views to logits, and how many at once."""
    if way == "published":
        return _as_published(detector), 1
    scorer = NetworkScorer(detector, bf16=way != "exact", compiled=way == "compiled")
    return lambda views: [logits[0] for logits in scorer.score(views[:, None])], scorer.at_once


def _cpu_change(detector: Detector, views: Pixels, found: list[float]) -> float:
    """Largest relative difference from what the network as it is gives on the CPU."""
    expected = np.array(_as_published(detector.to("cpu"))(views))
    return float((np.abs(found - expected) / np.maximum(np.abs(expected), 1e-3)).max())


def _as_published(detector: Detector) -> Callable[[Pixels], list[float]]:
    device = next(detector.network.parameters()).device

    def score(views_KHWC: Pixels) -> list[float]:
        with torch.inference_mode():
            return [
                float(
                    detector.network(
                        normalise(
                            torch.from_numpy(one[None]).to(device), detector.spec.preprocessing
                        ).contiguous()
                    ).reshape(-1)[0]
                )
                for one in views_KHWC
            ]

    return score


def _seconds(score: Callable[[Pixels], list[float]], views: Pixels) -> float:
    start = time.perf_counter()
    score(views)  # its logits come back to the CPU, so the GPU is done
    return time.perf_counter() - start


def _resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measured(layout: Layout, ways: Sequence[str], num_views: int) -> dict[str, Figures]:
    """The ways of one detector, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    end, other = context.Pipe()
    process = context.Process(target=measure, args=(layout, ways, num_views, other))
    process.start()
    other.close()
    try:
        return dict(end.recv())
    except EOFError:
        raise SystemExit(f"{layout[0].backbone}: its process ended without a figure") from None
    finally:
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few views")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well")
    parser.add_argument("--only", nargs="+", help="detectors of these names")
    given = parser.parse_args()
    ways = WAYS if given.compile else WAYS[:-1]
    num_views = 4 if given.quick else VIEWS
    on_gpu = torch.cuda.is_available()
    print(torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads")
    print("| detector | view | " + " | ".join(f"{way} ms" for way in ways) + " | ", end="")
    print("bf16, one view, ms | batch | peak MB | against the CPU |")
    print("|---" * (len(ways) + 6) + "|")
    figures = {}
    for names, layout in zoo().items():
        if given.only and not set(names.split()) & set(given.only):
            continue
        figures[names] = found = measured(layout, ways, num_views)
        ours = found["bf16"]
        cells = [names, f"{layout[1].size} px", *(f"{found[way]['ms']:.2f}" for way in ways)]
        cells += [f"{ours['ms_alone']:.2f}", f"{ours['at_once']:.0f}", f"{ours['peak_mb']:,.0f}"]
        cells.append(f"{found['exact']['cpu_change']:.1e}" if on_gpu else "–")
        print("| " + " | ".join(cells) + " |", flush=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
