"""A made-up dataset in the published layout: the real lists cut short, images drawn for them."""

import io
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from rayapp.dataset.labels import LabelScheme, item_id, load_scheme, read_list

GROUPS = ("gan", "sd", "midjourney", "dalle3")


def cut(published: Path, folder: Path, rows: int) -> Path:
    """The published lists with so many rows a suite, calibration images first; their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    annotations, suites = published / "annotations", published / "suites"
    calibration = lines(annotations / "test_calibration.txt")
    for group in GROUPS:
        made = lines(annotations / f"test_{group}.txt")
        source = lines(annotations / f"test_annotations_{group}.txt")
        at = chosen(made, set(calibration), rows // 4)
        write(folder / f"test_{group}.txt", [made[k] for k in at])
        write(folder / f"test_annotations_{group}.txt", [source[k] for k in at])
    write(folder / "test_calibration.txt", calibration)
    for name, calib, quota in (
        ("annotations_corvi.txt", "annotations_calib_corvi.txt", rows),
        *((p.name, "annotations_calib_practical.txt", rows // 6) for p in suites.glob("Test_*")),
    ):
        known = {path(line) for line in lines(suites / calib)}
        listed = lines(suites / name)
        at = chosen([path(line) for line in listed], known, quota)
        write(folder / name, [listed[k] for k in at])
        write(folder / calib, lines(suites / calib))
    return folder


def lines(file: Path) -> list[str]:
    return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def write(file: Path, rows: list[str]) -> None:
    file.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def path(line: str) -> str:
    """The path of a line of the Corvi or practical lists."""
    stem = line.rsplit(" ", 1)[0] if line.rsplit(" ", 1)[-1] in {"0", "1"} else line
    while stem.rsplit(",", 1)[-1].isdigit() and "," in stem:
        stem = stem.rsplit(",", 1)[0]
    return stem


def chosen(rows: list[str], first: set[str], number: int) -> list[int]:
    """Those of `first`, then evenly spread ones, in order."""
    kept = [k for k, row in enumerate(rows) if row in first][:number]
    spread = np.linspace(0, len(rows) - 1, number).astype(int).tolist()
    for k in spread:
        if len(kept) < number and k not in kept:
            kept.append(k)
    return sorted(kept)


def scheme_of(name: str) -> LabelScheme:
    """The label scheme of a published list."""
    practical = name.startswith("Test_") or "practical" in name
    return load_scheme("practical" if practical else "corvi" if "corvi" in name else "imaginet")


def draw(folder: Path, lists: Path) -> None:
    """An image for each row of every list; synthetic ones have less noise than real ones."""
    for file in sorted(lists.glob("*.txt")):
        side = (320, 300) if "test_annotations" in file.name else (40, 40)
        for item in read_list(str(file), scheme_of(file.name)).items:
            target = folder / item_id(item.path)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(encoded(item.path, item.labels[0], side))


def encoded(name: str, origin: int, side: tuple[int, int]) -> bytes:
    """A picture of its own for each name, as PNG bytes."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    small = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(small).resize(side, Image.Resampling.BICUBIC), np.int16)
    noise = random.normal(0, 4 if origin else 8, picture.shape)
    pixels = np.clip(picture + noise, 0, 255).astype(np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", compress_level=1)
    return sink.getvalue()
