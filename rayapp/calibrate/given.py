"""The images that a calibration rests on: an annotation list, or the marks of a review."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayapp.calibrate.settings import CalibrateSettings
from rayapp.dataset import manifest
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import AnnotationList, Item, load_scheme, read_list, write_list
from rayapp.dataset.marks import REVIEWED, Marks, read_marks
from rayapp.metrics.traffic import Traffic, decided_by, today
from rayapp.metrics.traffic_files import write_reference
from rayapp.models.calibration.importance import Importance
from rayapp.models.detector import Detector
from rayapp.models.verdicts import REAL, SYNTHETIC, Judge
from rayapp.storage.store import Store
from rayapp.storage.uris import read_uri

REVIEWS_FILE = "reviews.parquet"  # the marked images with their logits, and what each stands for
REGRESSIONS_FILE = "regressions.csv"  # those that the detector before called wrong


@dataclass(frozen=True)
class Given:
    """The images with their labels; of a review also what each stands for."""

    listed: AnnotationList
    marks: Marks | None = None
    uris: tuple[str, ...] = ()

    @property
    def hashes(self) -> dict[str, str]:
        """What of the input was read, by name."""
        if self.marks is None:
            return {"annotations": sha256(read_uri(self.listed.list_uri))}
        return {f"reviews {uri}": sha256(read_uri(uri)) for uri in self.uris}

    def importance(self, labels_N: np.ndarray) -> Importance | None:
        """How much each image counts; None: all alike.

        Raises:
            UserError: a class has too few marks.
        """
        if self.marks is None:
            return None
        paths = [item.path for item in self.listed.items]
        stands_for_N = np.array([self.marks.weights[path] for path in paths])
        return Importance.of(stands_for_N, labels_N, paths)


def read_given(settings: CalibrateSettings, gone: Collection[str] = ()) -> Given:
    """Read the list, or the marks; marks of what is `gone` are left out.

    Raises:
        UserError: no such list, or what `read_marks` refuses.
    """
    if settings.annotations is not None:
        scheme = load_scheme(settings.scheme)
        return Given(read_list(settings.annotations, scheme), uris=(settings.annotations,))
    marks = read_marks(settings.reviews, settings.sampled, gone)
    items = [Item(path, path, (origin,)) for path, origin in marks.origins.items()]
    listed = AnnotationList(", ".join(settings.reviews), load_scheme(REVIEWED), items)
    return Given(listed, marks, settings.reviews)


def without_gone(given: Given, scored: pa.Table, settings: CalibrateSettings) -> Given:
    """Marks without those of a few images that have no score: what was followed may be gone.

    Of a list, and where more than a few are gone, all stay, and are missed by name.
    """
    if given.marks is None:
        return given
    there = set(scored.filter(pc.is_valid(scored["logit"]))["path"].to_pylist())
    gone = given.marks.few_gone(there)
    if not gone:
        return given
    left = read_given(settings, gone)
    assert left.marks is not None
    return replace(left, marks=left.marks.left_out(gone))


def made_from(given: Given, detector: Detector, sampled: str) -> dict[str, Any]:
    """What `detector.json` says of a detector that a review made; nothing of any other."""
    if given.marks is None:
        return {}
    num_real, num_synthetic = given.marks.counts
    before = detector.spec.calibration
    fields = {
        "detector": detector.hash(),
        "calibration": before.hash if before else "",
        "reviews": {uri: sha256(read_uri(uri)) for uri in given.uris},
        "sampled": sampled,
        "num_real": num_real,
        "num_synthetic": num_synthetic,
        "num_unclear": given.marks.num_unclear,
    }
    return {"made_from": fields}


def write_reviews(given: Given, rows: pa.Table, before: Judge, store: Store) -> int:
    """Keep the marked images with their logits, and list those that `before` called wrong.

    Gives how many these are; where there are none, no list is written.
    """
    assert given.marks is not None
    paths = rows["path"].to_pylist()
    weights = pa.array([given.marks.weights[path] for path in paths], pa.float64())
    kept = rows.select(["path", "origin", "logit", "detector_hash"])
    manifest.write_table(store, REVIEWS_FILE, kept.append_column("stands_for", weights))
    _, _, verdicts = before.table(rows)
    words = [word.removesuffix(before.mark) for word in verdicts.words]
    names = {0: REAL, 1: SYNTHETIC}
    wrong = [
        item
        for item, word in zip(given.listed.items, words, strict=True)
        if word in (REAL, SYNTHETIC) and word != names[item.labels[0]]
    ]
    if wrong:
        write_list(store, REGRESSIONS_FILE, wrong, given.listed.scheme)
    return len(wrong)


def keep_reference(
    rows: pa.Table, labels_N: np.ndarray, kept_N: np.ndarray, detector: Detector, store: Store
) -> None:
    """Counts of the calibration's images by class, under its own decisions, for drift."""
    calibration = detector.spec.calibration
    judge = Judge("", calibration)
    classes = {}
    for label, name in ((0, REAL), (1, SYNTHETIC)):
        traffic = Traffic(detector.hash(), decided_by(judge))
        mine = (labels_N == label) & kept_N
        traffic.add_table(rows.filter(pa.array(mine)), judge, today())
        classes[name] = traffic
    write_reference(store, classes)
