"""Photographs and their reconstructions to train on: no generated image is seen.

A partner that only went through an autoencoder differs from its photograph by a trace that is this
autoencoder's own; a probe of it tells it well, and generators hardly. What carries over are faults
that generators share: noise in the latent, which the decoder draws as structure that was never
there (as in REM), and a drawing at half the size, enlarged. Content, size, format and compression
of all are equal.

Shapes: P photographs · V a photograph and its partners · F features of a view.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.real_features import (
    SIDE,
    FrozenFeatures,
    Single,
    Source,
    block_tokens,
    centre,
    pixels_of,
)
from benchmarks.real_folds import Fold, judge_by, without_source
from benchmarks.real_judge import Pairs
from benchmarks.real_probe import Probe, fit_probe
from benchmarks.real_set import RealSet
from rayapp.config.errors import UserError
from rayapp.dataset.images import named_as, sha256
from rayapp.demo.photographs import shipped_photographs
from rayapp.models.autoencoders.autoencoder_spec import load_autoencoder_spec, stored_autoencoder
from rayapp.models.autoencoders.round_trip import LatentNoise, Reconstructor, open_autoencoder
from rayapp.transforms import ImageHWC
from rayapp.transforms.draws import Dice
from rayapp.transforms.operations import crop, jpeg, pad, resize

EQUALISED_SIDE, EQUALISED_QUALITY = 448, 90  # of configs/perturbations/equalise.yaml
SHORTER_SIDES = 256, 320, 384  # px: faults of larger ones are too fine to carry over
BLOCK = 9  # whose token of the whole image is taken: of the twelve it carries over best
STRENGTH = 1.0  # of the ridge, fixed: what tells pairs apart best is the autoencoder's own
FALSE_ALARMS = 0.1  # share of the other sources' images that the threshold calls synthetic
TAKES_OF_PACKAGES = 3  # cuts of each photograph that a package carries
WEB_QUALITIES = 60, 100  # of a JPEG in between, for every second photograph
_SEEDS = 2**31


@dataclass(frozen=True)
class Rendering:
    """How a partner is made: at which share of the size, with how much noise in the latent."""

    scale: float
    latent_noise: float


RENDERINGS = Rendering(1.0, 0.7), Rendering(0.5, 0.0)


class Partners:
    """The partners of photographs under one autoencoder."""

    def __init__(self, autoencoder: str, weights: Path) -> None:
        self._stored = stored_autoencoder(load_autoencoder_spec(autoencoder), str(weights))
        self._reconstructor: Reconstructor | None = None
        drawn = SHORTER_SIDES, WEB_QUALITIES, EQUALISED_SIDE, EQUALISED_QUALITY, SIDE
        self._name = f"{self._stored.hash}\0{RENDERINGS}\0{drawn}"
        self._views = lru_cache(maxsize=1)(self._made)

    def sources(self, file: Path, item_id: str, equalised: bool) -> list[Source]:
        """A view of the photograph, and the same view of each of its partners."""
        digest = sha256(file.read_bytes())
        name = f"partners\0{digest}\0{item_id}\0{equalised}\0{self._name}"

        def view(number: int) -> Callable[[], ImageHWC]:
            return lambda: self._views(file, item_id, equalised)[number]

        return [(f"{name}\0{number}", view(number)) for number in range(1 + len(RENDERINGS))]

    def _made(self, file: Path, item_id: str, equalised: bool) -> list[ImageHWC]:
        dice = Dice(0, "real/partners", f"{item_id}\0{equalised}")
        cut_HWC, scale = _cut(pixels_of(file.read_bytes(), item_id), equalised, dice)
        views = [cut_HWC, *(self._rendered(cut_HWC, one, dice) for one in RENDERINGS)]
        if dice.chance(0.5):
            quality = dice.integer(*WEB_QUALITIES)
            views = [jpeg(one, quality, "rgb") for one in views]
        side = max(SIDE, round(cut_HWC.shape[0] * scale))
        views = [centre(resized(one, side, side)) for one in views]
        return [jpeg(one, EQUALISED_QUALITY, "rgb") for one in views] if equalised else views

    def _rendered(self, cut_HWC: ImageHWC, rendering: Rendering, dice: Dice) -> ImageHWC:
        if self._reconstructor is None:
            self._reconstructor = open_autoencoder(self._stored)
        unit = self._reconstructor.multiple
        side = max(round(cut_HWC.shape[0] * rendering.scale) // unit, 1) * unit
        noise = LatentNoise(rendering.latent_noise, dice.integer(0, _SEEDS))
        drawn_HWC = self._reconstructor(resized(cut_HWC, side, side), noise)
        return resized(drawn_HWC, *cut_HWC.shape[:2])


def resized(image_HWC: ImageHWC, height: int, width: int) -> ImageHWC:
    """As `equalise` resizes: smaller by areas, larger by Lanczos."""
    if image_HWC.shape[:2] == (height, width):
        return image_HWC
    return resize(image_HWC, height, width, "area" if height < image_HWC.shape[0] else "lanczos4")


def _cut(image_HWC: ImageHWC, equalised: bool, dice: Dice) -> tuple[ImageHWC, float]:
    """A square of the photograph at a drawn size and place, and by what it is resized later.

    It is as large as what the backbone sees of the whole: a photograph that is equalised is seen at
    the scale at which `equalise` would bring it.
    """
    own = min(image_HWC.shape[:2])
    side = min(SHORTER_SIDES[dice.integer(0, len(SHORTER_SIDES) - 1)], own)
    height, width = (max(round(length * side / own), side) for length in image_HWC.shape[:2])
    small_HWC = resized(image_HWC, height, width)
    scale = EQUALISED_SIDE / side if equalised else 1.0
    unit = 16  # so that half of it is a multiple of what autoencoders take
    taken = -(-round(SIDE / scale) // unit) * unit
    small_HWC = pad(small_HWC, taken, taken)
    top, left = (dice.integer(0, (length - taken) // 8) * 8 for length in small_HWC.shape[:2])
    return np.ascontiguousarray(crop(small_HWC, top, left, taken, taken)), scale


@dataclass(frozen=True)
class Photographs:
    """Real images to train on: file, id, source and group of each."""

    files: Sequence[Path]
    ids: Sequence[str]
    sources_P: NDArray[np.str_]
    groups_P: NDArray[np.str_]

    @classmethod
    def of_set(cls, pictures: RealSet) -> "Photographs":
        """The set's own real images, of which a fold leaves the judged source out, and packages'.

        Those few that Python packages carry are of many kinds; a source of a set is often of one.
        """
        rows = np.flatnonzero(pictures.origins_N == 0).tolist()
        carried = [one for one in shipped_photographs() for _ in range(TAKES_OF_PACKAGES)]
        ids = [f"{one.file.rpartition('/')[2]}#{at}" for at, one in enumerate(carried)]
        return cls(
            [*(pictures.files[at] for at in rows), *(Path(one.file) for one in carried)],
            [*(pictures.pictures[at].path for at in rows), *ids],
            np.concatenate([pictures.kinds_N[rows], np.array(["packages"] * len(ids))]),
            np.concatenate([pictures.groups_N[rows], [one.scene for one in carried]]),
        )

    @classmethod
    def of_folder(cls, folder: Path) -> "Photographs":
        """Every image of a folder: photographs of another source than those that are judged."""
        files = sorted(file for file in folder.glob("**/*") if named_as(file.name) == "image")
        if not files:
            raise UserError(f"{folder}: --photographs holds no image")
        ids = [file.relative_to(folder).as_posix() for file in files]
        sources = np.array(["photographs"] * len(ids))
        return cls(files, ids, sources, np.array(ids))


def partner_features(
    photographs: Photographs, partners: Partners, equalised: bool, features: FrozenFeatures
) -> Single:
    """Features [P, V, F] of a view of each photograph and of its partners."""
    found = [
        one
        for file, item_id in zip(photographs.files, photographs.ids, strict=True)
        for one in partners.sources(file, item_id, equalised)
    ]
    title = f"photographs and partners, {'equalised' if equalised else 'as the files are'}"
    all_NF = features.of(found, title, lambda view_HWC: (view_HWC,))
    return all_NF.reshape(len(photographs.files), -1, all_NF.shape[1])


def judge_aligned(
    pictures: RealSet, photographs: Photographs, both: Single, judged: Mapping[str, Single]
) -> dict[str, Pairs]:
    """Level → pairs, judged by probes trained on photographs of other sources and partners.

    Args:
        pictures: the set.
        photographs: what is trained on.
        both: of partner_features.
        judged: level → features of all images of the set. The threshold is set on clean ones of
            sources that are not judged, for partners are far easier to tell than what will come.
    """
    num_views = both.shape[1]
    tokens_ND = block_tokens(both.reshape(-1, both.shape[2]), BLOCK)
    origins_N = np.tile(np.arange(num_views) > 0, len(both)).astype(np.int64)
    sources_N = np.repeat(photographs.sources_P, num_views)
    groups_N = np.repeat(photographs.groups_P, num_views)

    seen = {level: block_tokens(one, BLOCK) for level, one in judged.items()}

    def fit(fold: Fold) -> Probe:
        kept = ~np.isin(sources_N, pictures.kinds_N[fold.real])
        training = tokens_ND[kept], origins_N[kept], sources_N[kept], groups_N[kept]
        probe = fit_probe(*training, (STRENGTH,))
        known = probe.scores(seen["clean"][fold.train])  # real images of the other sources
        return replace(probe, threshold=float(np.quantile(known, 1 - FALSE_ALARMS)))

    return judge_by(pictures, list(without_source(pictures)), fit, seen)
