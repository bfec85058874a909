"""Real photographs for the demo: those that scikit-image and scikit-learn carry, or a user's own.

Photographs are split by scene, so that no scene is both trained on and tested; views of one scene
share a split. Crops too smooth to carry evidence are left out by `MIN_ACTIVITY`.
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from rayapp.config.errors import UserError
from rayapp.dataset.among_files import describe_left_out, images_among
from rayapp.dataset.images import ImageError, decode
from rayapp.storage.uris import open_store

Split = Literal["train", "head", "calibration", "test"]
SPLITS: tuple[Split, ...] = ("train", "head", "calibration", "test")

CROP_PX = 256
MIN_ACTIVITY = 2.0
_STRIDE_PX = 48
_BLOCK_PX = 32
_MIN_TEST_SCENES = 4

_PUBLIC_DOMAIN = "public domain"
_CC0 = "CC0 1.0"
_CC_BY = "CC BY 2.0"


@dataclass(frozen=True)
class Photograph:
    """One photograph: where it lies, which scene it shows, on what terms, in which split."""

    file: str
    scene: str
    split: Split
    source: str
    licence: str

    def read(self) -> bytes:
        """The file's bytes as its author or package stored them."""
        return Path(self.file).read_bytes()


# Licences as the packages' own documentation states them (skimage.data docstrings; scikit-learn's
# datasets/images/README.txt).
_SHIPPED: tuple[tuple[str, str, str, Split, str, str], ...] = (
    (
        "skimage",
        "motorcycle_left.png",
        "motorcycle",
        "train",
        "free to use and publish with citation",
        "Scharstein et al., Middlebury Stereo 2014, left",
    ),
    (
        "skimage",
        "motorcycle_right.png",
        "motorcycle",
        "train",
        "free to use and publish with citation",
        "Scharstein et al., Middlebury Stereo 2014, right",
    ),
    ("skimage", "hubble_deep_field.jpg", "hubble", "train", _PUBLIC_DOMAIN, "NASA/ESA"),
    ("skimage", "brick.png", "brick", "train", _CC0, "CC0Textures Bricks25"),
    ("skimage", "grass.png", "grass", "train", _CC0, "Dimitrios Savva, Linolafett"),
    ("sklearn", "flower.jpg", "flower", "train", _CC_BY, "vultilion, flickr 6056698931"),
    ("skimage", "gravel.png", "gravel", "head", _CC0, "CC0Textures Gravel04"),
    ("skimage", "rocket.jpg", "rocket", "head", _PUBLIC_DOMAIN, "SpaceX, flickr 16511594820"),
    ("skimage", "cell.png", "cell", "calibration", _CC0, "Paul Müller, Jochen Guck"),
    ("skimage", "retina.jpg", "retina", "calibration", _CC0, "Mikael Häggström"),
    ("skimage", "chelsea.png", "cat", "calibration", _CC0, "Stefan van der Walt"),
    ("skimage", "astronaut.png", "astronaut", "test", _PUBLIC_DOMAIN, "NASA"),
    ("skimage", "camera.png", "photographer", "test", _CC0, "Lav Varshney"),
    ("skimage", "coffee.png", "coffee", "test", _CC0, "Rachel Michetti"),
    ("sklearn", "china.jpg", "temple", "test", _CC_BY, "danielbuechele, flickr 6061409035"),
)
_FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


def shipped_photographs() -> list[Photograph]:
    """The photographs that the scikit-image and scikit-learn packages carry.

    Raises:
        UserError: the packages are not installed.
    """
    found = []
    for package, name, scene, split, licence, credit in _SHIPPED:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise UserError(f"{package} is missing; pip install 'imaginet-ray[demo]'")
        file = Path(spec.origin).parent / _FOLDERS[package] / name
        source = f"{credit} ({package}: {name})"
        found.append(Photograph(str(file), scene, split, source, licence))
    return found


def own_photographs(folder: str) -> list[Photograph]:
    """A user's own photographs, each a scene of its own, split in the order of their sha256.

    A quarter is tested, never fewer than four; of the rest a fifth each, never fewer than one,
    trains the head and calibrates, and all others train.

    Raises:
        UserError: no such folder, or too few photographs.
    """
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"{folder}: no such folder of photographs")
    store = open_store(str(root))
    names, left_out = images_among(store, store.list())
    files = [root / name for name in names]
    by_hash = {hashlib.sha256(p.read_bytes()).hexdigest(): p for p in files}
    needed = _MIN_TEST_SCENES + len(SPLITS) - 1
    if len(by_hash) < needed:
        raise UserError(
            f"{folder}: {len(by_hash)} different photographs, at least {needed} are needed"
            + (f" (left out, no images: {describe_left_out(left_out)})" if left_out else "")
        )
    order = sorted(by_hash)
    num_test = max(_MIN_TEST_SCENES, len(order) // 4)
    num_small = max(1, (len(order) - num_test) // 5)
    num_train = len(order) - num_test - 2 * num_small
    counts = zip(SPLITS, (num_train, num_small, num_small, num_test), strict=True)
    splits = [split for split, count in counts for _ in range(count)]
    photographs = []
    for digest, split in zip(order, splits, strict=True):
        scene = by_hash[digest].relative_to(root).as_posix()
        file = str(by_hash[digest])
        photographs.append(Photograph(file, scene, split, scene, "the user's own"))
    return photographs


@dataclass(frozen=True)
class Crop:
    """One 256-px crop of a photograph; `number` counts the photograph's crops."""

    number: int
    top: int
    left: int
    grey: bool
    pixels_HWC: NDArray[np.uint8]


def crops(photograph: Photograph, most: int) -> list[Crop]:
    """At most `most` crops, evenly over those on the grid that carry enough texture.

    Raises:
        UserError: the file is no image.
    """
    try:
        pixels = decode(photograph.read()).pixels_HWC
    except ImageError as error:
        raise UserError(f"{photograph.file}: {error}") from None
    grey = bool((pixels[..., :1] == pixels).all())
    places = [(y, x) for y in _starts(pixels.shape[0]) for x in _starts(pixels.shape[1])]
    windows = [(y, x, pixels[y : y + CROP_PX, x : x + CROP_PX]) for y, x in places]
    textured = [w for w in windows if activity(w[2]) >= MIN_ACTIVITY]
    chosen = np.linspace(0, len(textured) - 1, min(most, len(textured))).round().astype(int)
    return [
        Crop(number, top, left, grey, np.ascontiguousarray(window))
        for number, (top, left, window) in enumerate(textured[at] for at in chosen)
    ]


def _starts(side: int) -> list[int]:
    """Even crop positions along one side, at most 48 px apart; none where the side is too short."""
    if side < CROP_PX:
        return []
    count = -(-(side - CROP_PX) // _STRIDE_PX) + 1
    return [round(at) for at in np.linspace(0, side - CROP_PX, count)]


def activity(pixels_HWC: NDArray[np.uint8]) -> float:
    """Median over 32-px blocks of the mean absolute Laplacian of the grey values (0…1020).

    The median asks that at least half of the crop has texture: in a smooth sky nothing tells a
    reconstruction from the photograph.
    """
    grey = cv2.cvtColor(pixels_HWC, cv2.COLOR_RGB2GRAY).astype(np.float32)
    steep = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    rows, columns = (n // _BLOCK_PX for n in steep.shape)
    blocks = steep[: rows * _BLOCK_PX, : columns * _BLOCK_PX]
    return float(np.median(blocks.reshape(rows, _BLOCK_PX, columns, _BLOCK_PX).mean(axis=(1, 3))))
