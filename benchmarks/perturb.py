"""Perturbation: how fast beside the published method, what Ray costs, how it grows.

    python benchmarks/perturb.py [--quick] [--only speed|ray|growth|grid]

Both sides run on two processes on the same images. The published method is given its draws and a
process pool for the saving too (the original saves in one process): decode by Pillow, pad, crop
and Lanczos4 by OpenCV, compress by OpenCV with RGB for BGR as published, store as lossless WebP at
Pillow's default effort. What is compared with is run half before and half after, against drift.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from benchmarks.photographs import lay_out
from rayapp.cluster.session import session
from rayapp.dataset import manifest
from rayapp.dataset.labels import load_scheme, read_list
from rayapp.jobs.perturb import perturb
from rayapp.perturb.file_names import targets
from rayapp.perturb.settings import PerturbSettings
from rayapp.perturb.variants import PerturbRows
from rayapp.storage.uris import open_store, split_uri
from rayapp.transforms import Plan, apply_each, decode_fast, encode_lossless, load_perturbation

CORES = 2
_TINY = """name: tiny
steps:
  - crop: {side: 48, at: random}
  - one_of: {p: 0.75, choices: [{steps: [{jpeg: {quality: [60, 100]}}]}]}
"""


def settings(folder: Path, name: str, **more: Any) -> PerturbSettings:
    return PerturbSettings(
        annotations=(str(folder / "list.txt"),),
        root=str(folder),
        output=str(folder / name),
        scheme="demo",
        cpus=CORES,
        **more,
    )


def timed(work: Callable[[], Any]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


# --- the published method ---------------------------------------------------------------------


def published_method(task: tuple[str, str, dict[str, dict[str, Any]]]) -> int:
    """Make one image as the original does; its bytes."""
    source, target, steps = task
    image_HWC: Any = np.asarray(Image.open(source).convert("RGB"))
    cut = steps.get("crop", {"top": 0, "left": 0, "height": 10**6, "width": 10**6})
    top, left = cut["top"], cut["left"]
    image_HWC = image_HWC[top : top + cut["height"], left : left + cut["width"]]
    if "resize" in steps:
        image_HWC = cv2.resize(image_HWC, (256, 256), interpolation=cv2.INTER_LANCZOS4)
    for suffix, op, flag in (
        (".jpg", "jpeg", cv2.IMWRITE_JPEG_QUALITY),
        (".webp", "webp", cv2.IMWRITE_WEBP_QUALITY),
    ):
        if op in steps:
            _, data = cv2.imencode(suffix, image_HWC, (flag, steps[op]["quality"]))
            image_HWC = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    Image.fromarray(image_HWC).save(target, "WEBP", lossless=True)
    return Path(target).stat().st_size


_shared: list[PerturbRows] = []


def _start_process(shared: PerturbRows | None) -> None:
    cv2.setNumThreads(1)
    if shared:
        shared.setup()
        _shared.append(shared)


def _batch(rows: Sequence[Any]) -> list[Any]:
    return _shared[0].batch(rows)


def _pool(
    tasks: Sequence[Any], work: Callable[[Any], Any], chunk: int, shared: PerturbRows | None = None
) -> tuple[float, list[Any]]:
    """Seconds and results of a bare pool of processes; its start is not counted."""
    with multiprocessing.get_context("fork").Pool(CORES, _start_process, (shared,)) as pool:
        pool.map(abs, range(CORES))
        start = time.monotonic()
        done = list(pool.imap_unordered(work, tasks, chunk))
        return time.monotonic() - start, done


def measure_speed(folder: Path, count: int) -> dict[str, float]:
    """Our job beside the published method; the same pixels are checked one by one."""
    lay_out(folder, count)
    ours = settings(folder, "ours")
    (folder / "theirs").mkdir()
    tasks = [
        (str(folder / path), f"{folder}/theirs/{Path(path).name}", steps)
        for path, steps in _plans(folder).items()
    ]
    half = len(tasks) // 2
    first, sizes = _pool(tasks[:half], published_method, 20)
    our_s = timed(lambda: perturb(ours))
    second, more = _pool(tasks[half:], published_method, 20)
    their_s, their_bytes = first + second, sum(sizes + more)
    made = manifest.read_table(*split_uri(f"{folder}/ours/manifest.parquet")).to_pylist()
    for row in made[:: max(1, count // 300)]:
        pair = [folder / "ours" / row["path"], folder / "theirs" / Path(row["source_path"]).name]
        one, other = (np.asarray(Image.open(path)) for path in pair)
        assert np.array_equal(one, other), row["id"]
    our_bytes = sum(row["bytes"] for row in made)
    print(f"published method, pool of {CORES}: {count / their_s:.1f} images/s")
    print(f"job on Ray, {CORES} CPUs: {count / our_s:.1f} images/s, pixels equal")
    return {"speedup": their_s / our_s, "size_ratio": our_bytes / their_bytes}


def _plans(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Source path → operation → arguments, as the job will draw them."""
    perturbation, result = load_perturbation("imaginet-test"), {}
    for item in read_list(folder / "list.txt", load_scheme("demo")).items:
        with Image.open(folder / item.path) as image:
            width, height = image.size
        plan = perturbation.draw((height, width), item.id, 42)["plain"]
        result[item.path] = {step.op: dict(step.params) for step in plan.steps}
    return result


# --- Ray ----------------------------------------------------------------------------------------


def measure_ray(folder: Path, count: int) -> dict[str, float]:
    """The job beside a bare pool that runs the same function on the same rows."""
    lay_out(folder, count)
    ours, perturbation = settings(folder, "ours"), load_perturbation("imaginet-test")
    work = PerturbRows(open_store(folder), open_store(folder / "pool"), perturbation, 42)
    listed = read_list(folder / "list.txt", load_scheme("demo"))
    rows = [
        {"id": t.item.id, "path": t.source_path, "name": t.name}
        for t in targets([listed], "clean")[0]
    ]
    batches = [rows[at : at + 16] for at in range(0, count, 16)]
    half = len(batches) // 2
    first, _ = _pool(batches[:half], _batch, 1, work)
    job_s = timed(lambda: perturb(ours))
    second, _ = _pool(batches[half:], _batch, 1, work)
    pool_s = first + second
    print(f"bare pool {count / pool_s:.1f} images/s, job on Ray {count / job_s:.1f} images/s")
    return {"ray_efficiency": pool_s / job_s}


def measure_growth(folder: Path, few: int, many: int) -> dict[str, float]:
    """Cost of an image in a large set over that in a small one; small images."""
    listed = lay_out(folder, many, sides=(64, 96))
    (folder / "tiny.yaml").write_text(_TINY)
    whole = listed.read_text().splitlines(keepends=True)

    def cost(name: str, count: int) -> float:
        listed.write_text("".join(whole[:count]))
        wanted = settings(folder, name, perturbation=str(folder / "tiny.yaml"))
        seconds = timed(lambda: perturb(wanted))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        each_ms, memory = seconds / count * 1000, f"driver's peak {peak:.0f} MB"
        print(f"{count:,} images: {each_ms:.2f} ms an image, {memory}", flush=True)
        return seconds / count

    before = cost("before", few)
    large = cost("large", many)
    after = cost("after", few)
    return {"cost_growth": large / ((before + after) / 2) - 1}


# --- a grid -------------------------------------------------------------------------------------


def measure_grid(folder: Path, count: int) -> dict[str, float]:
    """A grid of 13 JPEG qualities: what its one decode costs beside its 13 codecs."""
    lay_out(folder, count)
    perturbation, cost = (
        load_perturbation("jpeg-grid"),
        dict.fromkeys(("decode", "codec", "grid"), 0.0),
    )
    for path in sorted((folder / "distinct").iterdir()):
        data = path.read_bytes()
        start = time.perf_counter()
        pixels_HWC = _decoded(data)
        cost["decode"] += time.perf_counter() - start
        plans = perturbation.draw(pixels_HWC.shape[:2], path.name, 42)
        start = time.perf_counter()
        for _, changed_HWC in apply_each(plans, _decoded(data)):
            encode_lossless(changed_HWC)
        cost["grid"] += time.perf_counter() - start
        start = time.perf_counter()
        for plan in plans.values():
            encode_lossless(Plan(plan.steps[-1:]).steps[0].apply(pixels_HWC[:256, :256]))
        cost["codec"] += time.perf_counter() - start
    bound = cost["codec"] + cost["decode"]
    each = ", ".join(f"{name} {seconds / count * 1000:.1f} ms" for name, seconds in cost.items())
    print(f"grid of 13: {each}; grid = {cost['grid'] / bound:.3f} × (13 codecs + 1 decode)")
    return {"grid_decode_share": cost["decode"] / cost["grid"]}


def _decoded(data: bytes) -> Any:
    pixels_HWC = decode_fast(data)
    assert pixels_HWC is not None
    return pixels_HWC


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument("--only", choices=("speed", "ray", "growth", "grid"))
    given = parser.parse_args()
    quick: bool = given.quick
    cv2.setNumThreads(1)
    parts: dict[str, Callable[[Path], dict[str, float]]] = {
        "grid": lambda folder: measure_grid(folder, 15 if quick else 150),
        "speed": lambda folder: measure_speed(folder, 90 if quick else 3000),
        "ray": lambda folder: measure_ray(folder, 120 if quick else 10_000),
        "growth": lambda folder: measure_growth(
            folder, 300 if quick else 10_000, 1000 if quick else 100_000
        ),
    }
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        chosen = [name for name in parts if given.only in {None, name}]
        start = time.monotonic()
        with session(settings(Path(temporary), "none")):
            print(f"ray.init: {time.monotonic() - start:.1f} s, not counted", flush=True)
            for name in chosen:
                figures |= parts[name](Path(temporary, name))
    for name, value in figures.items():
        print(f"{name:<20}{value:.3f}")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
