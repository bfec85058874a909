"""The paste test: does a map show where in a photograph a quarter of another picture was put?

Of a detector, and over detectors of random weights.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rayapp.dataset.images import pixel_sha256
from rayapp.metrics.ranking import roc_auc
from rayapp.models.detector import Detector
from rayapp.run.progress import Progress
from rayapp.transforms.operations import jpeg

QUALITY = 90
Pixels = NDArray[np.uint8]


class Kept:
    """Arrays in a folder, under the hash of all that they depend on."""

    def __init__(self, folder: Path, base: str) -> None:
        self._folder, self._base = folder, base

    def array(self, key: str, make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """The array of that key, made where it is not there."""
        file = self._folder / f"{hashlib.sha256(f'{self._base} {key}'.encode()).hexdigest()}.npy"
        if file.exists():
            kept: NDArray[np.float32] = np.load(file)
            return kept
        found = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        with part.open("wb") as sink:
            np.save(sink, found)
        part.rename(file)
        return found


def pasted(
    base: Pixels, other: Pixels, rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.bool_]]:
    """A quarter of another picture in the same place, all compressed once more; and the mask."""
    side, half = len(base), len(base) // 2
    top, left = (int(v) for v in rng.integers(0, side - half + 1, 2))
    mask = np.zeros((side, side), bool)
    mask[top : top + half, left : left + half] = True
    return jpeg(np.where(mask[..., None], other, base), QUALITY, "rgb"), mask


def map_aucs(
    detector: Detector, pairs: Sequence[tuple[Pixels, Pixels]], title: str, kept: Kept
) -> NDArray[np.float64]:
    """AUC of the map against the mask, of each pair."""
    found, rng, own = [], np.random.default_rng(0), detector.hash()
    with Progress(title, len(pairs), unit="pastes") as progress:
        for base, other in pairs:
            pixels_HWC, mask = pasted(base, other, rng)
            logits_G = kept.array(
                f"map {own} {pixel_sha256(pixels_HWC)}",
                lambda one=pixels_HWC: detector.evidence(one).logits_G,  # type: ignore[misc]
            )
            at = np.arange(len(mask)) * len(logits_G) // len(mask)
            found.append(roc_auc(mask.ravel().astype(int), logits_G[np.ix_(at, at)].ravel()).value)
            progress.update()
    return np.array(found, dtype=np.float64)


@dataclass(frozen=True)
class OverSeeds:
    """The maps' mean AUC over networks of random weights, with its 95 % interval."""

    mean: float
    low: float
    high: float
    deviation: float  # from one network to the next

    @classmethod
    def of(cls, aucs_S: Sequence[float]) -> "OverSeeds":
        """Of each network's own mean, by Student's t: networks are drawn, not pastes."""
        mean, deviation = float(np.mean(aucs_S)), float(np.std(aucs_S, ddof=1))
        reach = float(stats.t.ppf(0.975, len(aucs_S) - 1)) * deviation / len(aucs_S) ** 0.5
        return cls(mean, mean - reach, mean + reach, deviation)

    @property
    def at_chance(self) -> bool:
        """Whether 1/2 lies within the interval."""
        return self.low <= 0.5 <= self.high


def of_random_weights(
    made: Iterable[Detector], pairs: Sequence[tuple[Pixels, Pixels]], kept: Kept
) -> OverSeeds:
    """Of the maps of several detectors, each of other random weights."""
    found = [
        map_aucs(one, pairs, f"random weights {number}", kept).mean()
        for number, one in enumerate(made, 1)
    ]
    return OverSeeds.of([float(one) for one in found])
