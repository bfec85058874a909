"""Folders of pictures as GenImage, ForenSynths and CIFAKE are laid out, of 60 pictures each.

Real ones are crops of the photographs that scikit-image and scikit-learn carry, the others such
crops after an up-sampling as a generator's last layers leave it.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from rayapp.demo.photographs import crops, shipped_photographs


def pictures() -> list[np.ndarray]:
    """Different crops of 256 px, those of one photograph apart from each other."""
    found = [crop.pixels_HWC for photo in shipped_photographs() for crop in crops(photo, 12)]
    return [found[at * 5 % len(found)] for at in range(len(found))]


def generated(pixels_HWC: np.ndarray, number: int) -> np.ndarray:
    """What a small generator would make of the crop: up-sampled twofold, in one of two ways."""
    way = (cv2.INTER_NEAREST, cv2.INTER_LINEAR)[number % 2]
    return cv2.resize(pixels_HWC[::2, ::2], pixels_HWC.shape[1::-1], interpolation=way)


def _lay(root: Path, counts: dict[str, int], side: int, suffixes: tuple[str, str]) -> Path:
    """So many pictures in each folder; those of a synthetic word are generated."""
    source: Iterator[np.ndarray] = iter(pictures())
    for folder, count in counts.items():
        synthetic = folder.rpartition("/")[2] in {"ai", "1_fake", "FAKE"}
        (root / folder).mkdir(parents=True)
        for number in range(count):
            pixels = next(source)
            pixels = generated(pixels, number) if synthetic else pixels
            if side < len(pixels):
                pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
            path = root / folder / f"{number:03}{suffixes[synthetic]}"
            Image.fromarray(pixels).save(path, quality=95)
    return root


def genimage(root: Path) -> Path:
    """`<generator>/train|val/nature|ai`; photographs are JPEG and generated ones PNG, as there."""
    counts = {"train": 11, "val": 4}
    folders = {
        f"{generator}/{part}/{word}": count
        for generator in ("ADM", "BigGAN")
        for part, count in counts.items()
        for word in ("nature", "ai")
    }
    return _lay(root, folders, 256, (".JPEG", ".png"))


def forensynths(root: Path) -> Path:
    """`<generator>/[class/]0_real|1_fake`; one of the classes is called train."""
    words = ("0_real", "1_fake")
    folders = {f"progan/{name}/{word}": 4 for name in ("car", "cat", "train") for word in words}
    folders |= {f"{name}/{word}": 9 for name in ("biggan", "stargan") for word in words}
    return _lay(root, folders, 256, (".png", ".png"))


def cifake(root: Path) -> Path:
    """`train|test/REAL|FAKE`, 32-px JPEG."""
    counts = {"train": 22, "test": 8}
    folders = {f"{part}/{word}": n for part, n in counts.items() for word in ("REAL", "FAKE")}
    return _lay(root, folders, 32, (".jpg", ".jpg"))
