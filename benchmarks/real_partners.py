"""Photographs and their reconstructions, made as `imaginet reconstruct` makes them, to train on.

A probe that is trained on them alone has seen no generated image: content, size, format and
compression of both are equal, and only the trace of the autoencoder is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.real_features import (
    Condition,
    FrozenFeatures,
    Single,
    Source,
    centre_block,
    pixels_of,
)
from benchmarks.real_folds import Fold, judge_by, without_source
from benchmarks.real_judge import Pairs
from benchmarks.real_probe import Probe, fit_probe
from benchmarks.real_set import RealSet
from rayapp.config.errors import UserError
from rayapp.dataset.images import named_as, sha256
from rayapp.models.autoencoders.autoencoder_spec import load_autoencoder_spec, stored_autoencoder
from rayapp.reconstruct.pair_draws import PairDraws
from rayapp.reconstruct.pair_rows import Pair, PairRows
from rayapp.storage.uris import open_store
from rayapp.transforms import ImageHWC, encode_lossless
from rayapp.transforms.operations import resize

SIDE = 384  # of the cut, px
SHORTER_SIDE = 256  # px to which a photograph is shrunk before: its trace is enlarged with it
BLOCK = 9  # whose token is taken: what other blocks tell pairs apart by carries over less
STRENGTH = 0.1  # fixed: inner folds know pairs alone, and what tells those apart best overfits


class Partners:
    """The pairs of photographs under one autoencoder."""

    def __init__(self, autoencoder: str, weights: Path) -> None:
        self._draws = PairDraws(
            0, SIDE, latent_noise=0.0, blend=0.0, blend_least=1.0, blend_in="pixels"
        )
        stored = stored_autoencoder(load_autoencoder_spec(autoencoder), str(weights))
        nowhere = open_store(weights)  # rows are not read from there, nor written
        self._rows = PairRows(nowhere, nowhere, stored, self._draws, True, None, "png")
        self._name = f"{stored.hash}\0{self._draws}"
        self._opened = False
        self._pair = lru_cache(maxsize=1)(self._made)

    def _made(self, file: Path, item_id: str) -> Pair:
        if not self._opened:
            threads = torch.get_num_threads()
            self._rows.setup()  # as a worker beside others it takes one thread; here it is alone
            torch.set_num_threads(threads)
            self._opened = True
        small = shrunk(pixels_of(file.read_bytes(), item_id), SHORTER_SIDE)
        return self._rows.pair(small, item_id)

    def sources(self, file: Path, item_id: str, condition: Condition) -> tuple[Source, Source]:
        """The real cut and its partner, both under a condition."""
        digest = sha256(file.read_bytes())
        name = f"pair\0{digest}\0{item_id}\0{SHORTER_SIDE}\0{condition.key}\0{self._name}"
        return (
            (f"{name}\0real", lambda: condition.apply(self._pair(file, item_id).real_HWC, item_id)),
            (
                f"{name}\0partner",
                lambda: condition.apply(self._pair(file, item_id).partner_HWC, item_id),
            ),
        )


def shrunk(image_HWC: ImageHWC, shorter_side: int) -> bytes:
    """The image as a lossless file, its shorter side at most this."""
    height, width = image_HWC.shape[:2]
    scale = min(shorter_side / min(height, width), 1.0)
    small_HWC = resize(image_HWC, round(height * scale), round(width * scale), "area")
    return encode_lossless(small_HWC)


@dataclass(frozen=True)
class Photographs:
    """Real images to train on: file, id, source and group of each."""

    files: Sequence[Path]
    ids: Sequence[str]
    sources_P: NDArray[np.str_]
    groups_P: NDArray[np.str_]

    @classmethod
    def of_set(cls, pictures: RealSet) -> "Photographs":
        """The real images of the set itself, of which a fold leaves the judged source out."""
        rows = np.flatnonzero(pictures.origins_N == 0).tolist()
        return cls(
            [pictures.files[at] for at in rows],
            [pictures.pictures[at].path for at in rows],
            pictures.kinds_N[rows],
            pictures.groups_N[rows],
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


def pair_features(
    photographs: Photographs,
    partners: Partners,
    conditions: Sequence[Condition],
    features: FrozenFeatures,
) -> dict[Condition, Single]:
    """Condition → features of real, partner, real, partner … of all photographs."""
    found = [
        one
        for file, item_id in zip(photographs.files, photographs.ids, strict=True)
        for condition in conditions  # within a photograph: its partner is made once
        for one in partners.sources(file, item_id, condition)
    ]
    all_NF = features.of(found, "photographs and partners")
    by_condition = all_NF.reshape(-1, len(conditions), 2, all_NF.shape[1])
    return {
        condition: by_condition[:, at].reshape(-1, all_NF.shape[1])
        for at, condition in enumerate(conditions)
    }


def judge_aligned(
    pictures: RealSet, photographs: Photographs, both: Single, judged: Mapping[str, Single]
) -> dict[str, Pairs]:
    """Level → pairs, judged by probes trained on photographs of other sources and partners.

    Args:
        pictures: the set.
        photographs: what is trained on.
        both: of pair_features.
        judged: level → features of all images of the set.
    """
    origins, both = np.tile([0, 1], len(both) // 2), centre_block(both, BLOCK)
    sources, groups = np.repeat(photographs.sources_P, 2), np.repeat(photographs.groups_P, 2)
    judged_sources = pictures.kinds_N

    def fit(fold: Fold) -> Probe:
        kept = ~np.isin(sources, judged_sources[fold.real])
        return fit_probe(both[kept], origins[kept], sources[kept], groups[kept], (STRENGTH,))

    seen = {level: centre_block(one, BLOCK) for level, one in judged.items()}
    return judge_by(pictures, list(without_source(pictures)), fit, seen)
