"""Training crops a second from a tile store, beside decoding whole files: on one core.

Images: mosaics of 1024 × 1024 px from the photographs that scikit-image and scikit-learn carry, at
their own resolution, as PNG and as JPEG (quality 95). A crop is 96 × 96 px at a random place. Both
ways return the same pixels, which is checked. Command: python benchmarks/ingest.py [--quick]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from rayapp.cluster.session import kept_open
from rayapp.dataset.labels import Item, load_scheme, write_list
from rayapp.dataset.tiles import TileIndex
from rayapp.demo.photographs import crops, shipped_photographs
from rayapp.jobs.pack import pack
from rayapp.pack.settings import PackSettings
from rayapp.storage.uris import open_store
from rayapp.transforms import ImageHWC, Window

CROP_PX, PIECE_PX, PIECES = 96, 256, 4
SUFFIXES = {"png": [cv2.IMWRITE_PNG_COMPRESSION, 6], "jpg": [cv2.IMWRITE_JPEG_QUALITY, 95]}


def mosaics(count: int) -> list[ImageHWC]:
    """Pictures of 1024 × 1024 px put together from photographs' crops."""
    pieces = [c.pixels_HWC for photo in shipped_photographs() for c in crops(photo, 24)]
    order = np.random.default_rng(0).permutation(len(pieces))
    made = []
    for number in range(count):
        chosen = [
            pieces[i] for i in np.take(order, range(number * 16, number * 16 + 16), mode="wrap")
        ]
        rows = [np.hstack(chosen[at : at + PIECES]) for at in range(0, 16, PIECES)]
        made.append(np.vstack(rows))
    return made


def windows(count: int, side: int) -> list[Window]:
    """Random crops of an image with that side."""
    places = np.random.default_rng(1).integers(0, side - CROP_PX + 1, (count, 2))
    return [Window(int(top), int(left), CROP_PX, CROP_PX) for top, left in places]


def seconds(read: Callable[[int], ImageHWC], count: int) -> float:
    """The fastest of three rounds of `count` crops, in seconds a crop."""
    rounds = []
    for _ in range(3):
        start = time.perf_counter()
        for number in range(count):
            read(number)
        rounds.append((time.perf_counter() - start) / count)
    return min(rounds)


def measure(
    folder: Path, suffix: str, codec: str, num_images: int, num_crops: int
) -> dict[str, float]:
    """Crops from whole files and from tiles: seconds each, and bytes of both stores."""
    root, out = folder / suffix, folder / f"{suffix}-{codec}"
    names = [f"{number}.{suffix}" for number in range(num_images)]
    if not (out / "tiles.parquet").exists():
        settings = PackSettings(
            annotations=(str(root / "all.txt"),),
            root=str(root),
            output=str(out),
            codec=codec,
            scheme="demo",
        )
        pack(settings)
    index = TileIndex(open_store(out))
    places = windows(num_crops, PIECE_PX * PIECES)

    def whole(number: int) -> ImageHWC:
        data = (root / names[number % num_images]).read_bytes()
        top, left, height, width = places[number]
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert pixels is not None
        return np.asarray(pixels[top : top + height, left : left + width], np.uint8)

    def tiled(number: int) -> ImageHWC:
        return index.picture(names[number % num_images]).read(places[number])

    for number in range(num_crops):
        np.testing.assert_array_equal(whole(number), tiled(number))
    files = sum((root / name).stat().st_size for name in names)
    tiles = sum(path.stat().st_size for path in (out / "shards").iterdir())
    return {
        "whole_s": seconds(whole, num_crops),
        "tiled_s": seconds(tiled, num_crops),
        "files": files,
        "tiles": tiles,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer images, under a minute")
    quick = parser.parse_args().quick
    num_images, num_crops = (4, 40) if quick else (24, 240)
    cv2.setNumThreads(1)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, kept_open():
        folder = Path(name)
        pictures = mosaics(num_images)
        for suffix, options in SUFFIXES.items():
            (folder / suffix).mkdir()
            for number, pixels in enumerate(pictures):
                file = str(folder / suffix / f"{number}.{suffix}")
                cv2.imwrite(file, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
            items = [
                Item(f"{n}.{suffix}", f"{n}.{suffix}", (0, 0, 4, 4)) for n in range(num_images)
            ]
            write_list(open_store(folder / suffix), "all.txt", items, load_scheme("demo"))
        print(f"{'tiles':<6}{'file':<6}{'whole ms':>10}{'tiles ms':>10}{'faster':>9}{'size':>8}")
        for codec in ("webp", "zstd"):
            for suffix in SUFFIXES:
                found = measure(folder, suffix, codec, num_images, num_crops)
                png = sum(p.stat().st_size for p in (folder / "png").glob("*.png"))
                faster, size = found["whole_s"] / found["tiled_s"], found["tiles"] / png
                print(
                    f"{codec:<6}{suffix:<6}{1e3 * found['whole_s']:>10.2f}"
                    f"{1e3 * found['tiled_s']:>10.2f}{faster:>8.1f}×{size:>8.2f}"
                )
                kind = "jpeg" if suffix == "jpg" else suffix
                prefix = "" if codec == "webp" else "zstd_"
                figures[f"{prefix}tile_speedup_{kind}"] = round(faster, 2)
                if suffix == "png":
                    figures[f"{prefix}store_ratio"] = round(size, 3)
    print("size: bytes of the tiles, of the same pixels as PNG (level 6)")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
