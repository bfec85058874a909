"""Pairs: what the job costs beside a bare loop, its memory, and what tells both of a pair apart.

    python benchmarks/reconstruct.py [--quick] [--only efficiency|memory|seams|audit]
        [--weights DIR] [--photos DIR]

efficiency  rows of the job beside a bare pool of processes that runs the same function on the same
            rows: small images, the smallest network
memory      peak of a process that makes the pair of an image of a megapixel, by tiles
seams       largest difference between that image by tiles and whole, in levels
audit       AUC of each plain feature (format, size, metadata, brightness, chroma, noise …) at
            telling partners from real images: 500 cuts of the photographs under --photos, through
            TAEF2 of --weights; a network with random weights and the shipped photographs without
"""

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.torch
import torch

from benchmarks.photographs import files, lay_out
from rayapp.audit.inspect import inspect
from rayapp.audit.shortcuts import features, shortcuts
from rayapp.cluster.session import session
from rayapp.dataset import manifest
from rayapp.dataset.labels import load_scheme, read_list
from rayapp.jobs.reconstruct import reconstruct
from rayapp.models.autoencoders.autoencoder_spec import load_autoencoder_spec, stored_autoencoder
from rayapp.models.autoencoders.round_trip import TILE_PX, open_autoencoder
from rayapp.models.autoencoders.taesd import Taesd
from rayapp.models.autoencoders.tiny import Generator
from rayapp.reconstruct.pair_draws import PairDraws
from rayapp.reconstruct.pair_rows import PairRows
from rayapp.reconstruct.settings import ReconstructSettings
from rayapp.storage.uris import open_store

CORES = 2
_SMALL_PX = 256  # sides of the efficiency's images


def settings(folder: Path, name: str, **more: Any) -> ReconstructSettings:
    given = {"annotations": (str(folder / "list.txt"),), "root": str(folder), "scheme": "demo"}
    return ReconstructSettings(**given | {"output": str(folder / name), "cpus": CORES} | more)


# --- efficiency -------------------------------------------------------------------------------

_shared: list[PairRows] = []


def _start_process(work: PairRows) -> None:
    work.setup()
    _shared.append(work)


def _batch(rows: Sequence[Any]) -> int:
    return len(_shared[0].batch(rows))


def _bare(work: PairRows, batches: Sequence[Any]) -> float:
    """Seconds of a bare pool of processes; its start is not counted."""
    context = multiprocessing.get_context("forkserver")
    with context.Pool(CORES, _start_process, (work,)) as pool:
        pool.map(abs, range(CORES))
        start = time.monotonic()
        list(pool.imap_unordered(_batch, batches, 1))
        return time.monotonic() - start


def _is_paired(line: str) -> bool:
    return not line.partition(",")[0].endswith(".webp")


def measure_efficiency(folder: Path, count: int) -> dict[str, float]:
    lay_out(folder, 2 * count, sides=(_SMALL_PX, _SMALL_PX + 32))
    # Of a lossy WebP no pair is made: it would be no work.
    lines = [line for line in (folder / "list.txt").read_text().splitlines() if _is_paired(line)]
    assert len(lines) >= count
    (folder / "list.txt").write_text("".join(f"{line}\n" for line in lines[:count]))
    torch.manual_seed(0)
    network = safetensors.torch.save(Generator("pixel shuffle").state_dict())
    (folder / "pixel-shuffle.safetensors").write_bytes(network)
    named: dict[str, Any] = {"autoencoder": "demo-pixel-shuffle", "weights": str(folder)}
    wanted = settings(folder, "job", side=_SMALL_PX, on_ray=True, **named)
    work = PairRows(
        open_store(folder),
        open_store(folder / "bare"),
        stored_autoencoder(load_autoencoder_spec(wanted.autoencoder[0]), wanted.weights),
        PairDraws.of(wanted),
        wanted.align,
        None,
        wanted.format,
    )
    items = read_list(folder / "list.txt", load_scheme("demo")).items
    rows = [{"id": item.id, "path": item.path} for item in items]
    batches = [rows[at : at + 4] for at in range(0, count, 4)]
    half = len(batches) // 2
    first = _bare(work, batches[:half])
    start = time.monotonic()
    made = reconstruct(wanted)
    job_s = time.monotonic() - start
    assert made.counts["pairs"] == count, made.counts
    bare_s = first + _bare(work, batches[half:])
    print(f"bare pool {count / bare_s:.1f} pairs/s, job on Ray {count / job_s:.1f} pairs/s")
    return {"reconstruct_efficiency": bare_s / job_s}


# --- memory and seams ---------------------------------------------------------------------------


def _random_weights(folder: Path) -> Path:
    torch.manual_seed(0)
    network = Taesd(32, middle_blocks=True)
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("encoder", "decoder"):
        weights = safetensors.torch.save(getattr(network, part).state_dict())
        (folder / f"taef2_{part}.safetensors").write_bytes(weights)
    return folder


def measure_memory(folder: Path, weights: Path) -> dict[str, float]:
    """In a process of its own, whose peak is that of the pair."""
    folder.mkdir(parents=True)
    ((name, data),) = files(1, (1024, 1024))
    (folder / name).write_bytes(data)
    code = (
        "import sys; from benchmarks.reconstruct import peak_of; peak_of(*sys.argv[1:])",
        *(str(folder), name, str(weights)),
    )
    done = subprocess.run([sys.executable, "-c", *code], stdout=subprocess.PIPE, check=True)
    peak_gb = float(done.stdout.split()[-1])
    print(f"a pair of 1,024 × 1,024 px: peak {peak_gb:.2f} GB")
    return {"peak_gb": peak_gb}


def peak_of(folder: str, name: str, weights: str) -> None:
    """Print the peak memory of this process, in GB, after one pair."""
    spec = stored_autoencoder(load_autoencoder_spec("taef2"), weights)
    draws = PairDraws(0, 1024, 0.0, 0.0, 0.3, "both")
    root = open_store(folder)
    work = PairRows(root, root, spec, draws, True, None, "webp")
    work.setup()
    (row,) = work.batch([{"id": name, "path": name}])
    assert row["status"] == manifest.STATUS_OK, row["error"]
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def measure_seams(weights: Path, side: int) -> dict[str, float]:
    stored = stored_autoencoder(load_autoencoder_spec("taef2"), str(weights))
    ((_, data),) = files(1, (side, side))
    from rayapp.dataset.images import pixels_of

    pixels_HWC = pixels_of(data)
    tile_px = TILE_PX if side > TILE_PX else side // 3
    tiled_HWC = open_autoencoder(stored, tile_px=tile_px)(pixels_HWC)
    whole_HWC = open_autoencoder(stored, tile_px=1 << 30)(pixels_HWC)
    worst = np.abs(tiled_HWC.astype(int) - whole_HWC).max()
    return {"seam_levels": float(worst)}


# --- what tells both apart ----------------------------------------------------------------------


def _photographs(folder: Path, given: Path | None, count: int) -> Iterator[tuple[str, bytes]]:
    if given is None:
        yield from (one for one in files(min(count, 60)) if _is_paired(one[0]))
        return
    for path in sorted(given.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"):
            yield path.relative_to(given).as_posix().replace("/", "__"), path.read_bytes()


def measure_audit(
    folder: Path, count: int, weights: Path, photos: Path | None, side: int
) -> dict[str, float]:
    """Cuts of each photograph by as many seeds as it takes; a photograph is a group."""
    root = folder / "photos"
    root.mkdir(parents=True)
    names = []
    for name, data in _photographs(folder, photos, count):
        (root / name).write_bytes(data)
        names.append(name)
    rows: list[dict[str, Any]] = []
    for seed in range(-(-count // len(names))):
        left = count - seed * len(names)
        lines = [f"{name},0,0,4,4\n" for name in names[:left]]
        (folder / f"{seed}.txt").write_text("".join(lines))
        made = reconstruct(
            ReconstructSettings(
                root=str(root),
                annotations=(str(folder / f"{seed}.txt"),),
                scheme="demo",
                autoencoder="taef2",
                weights=str(weights),
                output=str(folder / f"pairs{seed}"),
                side=side,
                seed=seed,
                cpus=CORES,
            )
        )
        print(f"seed {seed}: {made.counts}, {made.results['alignment']}", flush=True)
        table = manifest.read_table(made.store, "manifest.parquet")
        for row in table.to_pylist():
            if row["status"] == manifest.STATUS_OK:
                data = made.store.get(row["path"])
                rows.append(row | {"bytes": len(data)} | inspect(data))
    return _told_apart(rows)


def _told_apart(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    columns = {name: [row.get(name) for row in rows] for name in (
        "path", "container", "quality", "tables", "subsampling", "width", "height", "bytes",
        "metadata", "brightness", "chroma", "noise")}  # fmt: skip
    columns["path"] = [str(path).partition("/")[2] for path in columns["path"]]
    synthetic_N = np.array([row["origin"] for row in rows])
    groups = [row["group"] for row in rows]
    found = shortcuts(features(pa.table(columns)), synthetic_N, groups)
    worst = 0.5
    for one in found:
        value = one.auc.value or 0.5
        worst = max(worst, value, 1 - value)
        print(f"  {one.feature:<16}AUC {value:.3f}  (learnt on four fifths of the photographs)")
    for name in ("bytes", "brightness", "chroma", "noise"):
        value = float(roc_auc_score(synthetic_N, columns[name]))
        worst = max(worst, value, 1 - value)
        print(f"  {name:<16}AUC {value:.3f}  (the number itself)")
    return {"audit_worst_auc": worst, "audit_pairs": len(rows) / 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument("--only", choices=("efficiency", "memory", "seams", "audit"))
    parser.add_argument("--weights", type=Path, help="folder with TAEF2's two files")
    parser.add_argument("--photos", type=Path, help="folder of photographs, for the audit")
    parser.add_argument("--rows", type=int, default=10_000, help="of the efficiency")
    parser.add_argument("--pairs", type=int, default=500, help="of the audit")
    parser.add_argument("--side", type=int, default=256, help="px of the audit's cuts")
    given = parser.parse_args()
    quick: bool = given.quick
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights: Path = given.weights or _random_weights(folder / "weights")
        pairs = 24 if quick else given.pairs
        parts: dict[str, Callable[[], dict[str, float]]] = {
            "memory": lambda: measure_memory(folder / "memory", weights),
            "seams": lambda: measure_seams(weights, 264 if quick else 1024),
            "efficiency": lambda: measure_efficiency(folder / "rows", 160 if quick else given.rows),
            "audit": lambda: measure_audit(
                folder / "audit", pairs, weights, given.photos, 64 if quick else given.side
            ),
        }
        with session(settings(folder, "none", autoencoder="taef2")):
            for name, part in parts.items():
                if given.only in {None, name}:
                    figures |= part()
    for name, value in figures.items():
        print(f"{name:<26}{value:.3f}")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
