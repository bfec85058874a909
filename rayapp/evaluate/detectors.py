"""The detectors that are compared: their specs, hashes, and names in tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from rayapp.config.errors import UserError
from rayapp.config.paths import slug
from rayapp.dataset import manifest
from rayapp.dataset.leakage import ITEMS_FILE
from rayapp.models.adopted.hub_uris import split_labels
from rayapp.models.detector import DetectorSpec
from rayapp.models.folder import load_detector, own_store

_GENERIC = {"detector", "last"}  # what the jobs call every detector's folder


@dataclass(frozen=True)
class Measured:
    """A detector to be measured; `calibrated_on` are the images of its calibration, if known."""

    name: str
    uri: str
    spec: DetectorSpec
    hash: str
    calibrated_on: pa.Table | None

    @property
    def task(self) -> str:
        """What it tells: origin, or which of several classes."""
        return "origin" if self.spec.architecture.head.num_outputs == 1 else "identification"

    @property
    def has_features(self) -> bool:
        """Whether it gives features that can be shown; a fusion and those of others do not."""
        return self.spec.fusion is None and self.spec.adopted is None

    @property
    def view(self) -> str:
        """What it sees of an image."""
        if self.spec.fusion:
            return "as its parts do"
        return f"{self.spec.preprocessing.view}, {self.spec.preprocessing.size} px"


def load_all(uris: Sequence[str], names: Sequence[str]) -> list[Measured]:
    """The detectors, under the names given or the shortest ends of their paths that differ.

    Raises:
        UserError: no such detector, one that stands twice, or another number of names.
    """
    if names and len(names) != len(uris):
        raise UserError(f"names: {len(names)} for {len(uris)} detectors")
    whole = [uri.rstrip("/") for uri in uris]
    for several in (names, whole, [slug(name) for name in names or short_names(whole)]):
        twice = next((name for name in several if list(several).count(name) > 1), None)
        if twice is not None:
            raise UserError(f"detector {twice} stands twice")
    found = []
    for uri, name in zip(whole, names or short_names(whole), strict=True):
        detector, store = load_detector(uri), own_store(uri)
        there = store is not None and store.stat(ITEMS_FILE) is not None
        items = manifest.read_table(store, ITEMS_FILE) if store and there else None
        found.append(Measured(name, uri, detector.spec, detector.hash(), items))
    return found


def short_names(uris: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that differ and say more than `detector`."""
    plain = [split_labels(uri)[0] for uri in uris]
    parts = [[part for part in uri.split("/") if part] for uri in plain]
    for length in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(one[-length:]) for one in parts]
        if len(set(ends)) == len(ends) and not _GENERIC & set(ends):
            return ends
    return list(uris)
