"""From settings to measurements: which detector is measured on which suite, with which rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from rayapp.config.errors import UserError
from rayapp.dataset.labels import AnnotationList, Item, item_id, read_list
from rayapp.dataset.leakage import trained_on
from rayapp.dataset.scores import read_matching
from rayapp.dataset.suites import FOLDER, Suite, TestItems, read_items
from rayapp.evaluate.csv_tables import evidence, evidence_key
from rayapp.evaluate.detectors import Measured
from rayapp.evaluate.judge import Judged, class_probabilities, judge, promise, slices_of
from rayapp.evaluate.left_out import own_slices, resampled
from rayapp.evaluate.levels import Level, levels, lists_folder
from rayapp.evaluate.measurements import (
    Measurements,
    identification_measurements,
    origin_measurements,
    sweep_measurements,
)
from rayapp.evaluate.settings import EvaluateSettings
from rayapp.metrics.evaluation import NOT_A_TEST
from rayapp.models.verdicts import decides_at
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store


@dataclass(frozen=True)
class Pairing:
    """One detector on one suite: its measurements, and the table of its scored images."""

    detector: Measured
    suite: Suite
    measurements: Measurements
    published_as: str
    evidence: pa.Table | None = None


@dataclass
class Bench:
    """Reads lists and scores once, and pairs every detector with every suite that fits it."""

    settings: EvaluateSettings
    detectors: Sequence[Measured]
    _scores: dict[tuple[str, str | None], tuple[set[str], pa.Table]] = field(default_factory=dict)
    _items: dict[tuple[Any, ...], TestItems] = field(default_factory=dict)

    def list_uris(self, suite: Suite) -> list[str]:
        """Every list that a suite's figures depend on, as far as it is there."""
        uris = [uri for level in levels(suite, self.settings) for uri in level.uris]
        if suite.name != FOLDER and suite.sweep is None:
            folder = lists_folder(self.settings, suite)
            store = open_store(folder)
            others = [
                *suite.made_from.values(),
                *([suite.calibration] if suite.calibration else []),
            ]
            uris += [f"{folder}/{name}" for name in others if store.stat(name) is not None]
        return uris

    def pairings(self, suites: Sequence[Suite]) -> list[Pairing]:
        """Suite by suite, detector by detector.

        Raises:
            UserError: a list, or a score of one of its images, is missing.
        """
        return [
            self._pairing(detector, suite, at)
            for suite in suites
            for at, detector in enumerate(self.detectors)
            if suite.sweep is not None or suite.task == detector.task
        ]

    def items(self, suite: Suite, level: Level) -> TestItems:
        """The rows of a test set under the protocol; suites on the same lists share them."""
        key = (level.uris, tuple(suite.made_from.items()), suite.task, suite.scheme)
        if key not in self._items:
            lists = self._lists(suite)
            self._items[key] = read_items(suite, level.uris, lists, self.settings.protocol)
        return self._items[key]

    def calibration(self, suite: Suite) -> AnnotationList | None:
        """The list that the original calibrates on; None where the suite has none, or it's absent.

        Raises:
            UserError: legacy asks for it, and it is not there.
        """
        if suite.calibration is None:
            return None
        store = self._lists(suite)
        assert store is not None
        if store.stat(suite.calibration) is None:
            if self.settings.protocol == "legacy":
                raise UserError(
                    f"{store.uri(suite.calibration)}: no such file; legacy calibrates "
                    "on it as the original does"
                )
            return None
        return read_list(store.uri(suite.calibration), suite.labels())

    def _lists(self, suite: Suite) -> Store | None:
        return None if suite.name == FOLDER else open_store(lists_folder(self.settings, suite))

    def _table(self, detector: Measured, root: str | None, *lists: Sequence[Item]) -> pa.Table:
        """The scores of the lists' images, and of those that were asked for before."""
        key, wanted = (detector.hash, root), {item_id(one.path) for few in lists for one in few}
        known, table = self._scores.get(key, (set[str](), None))
        if table is None or not wanted <= known:
            known = known | wanted
            table = read_matching(self.settings.scores, detector.hash, root, known)
            self._scores[key] = known, table
        return table

    def _pairing(self, detector: Measured, suite: Suite, at: int) -> Pairing:
        named = self.settings.published_as
        published_as = named[at] if len(named) > 1 else named[0]
        if detector.task == "identification":
            measurements, rows = self._identification(detector, suite)
        elif suite.sweep is not None:
            measurements, rows = self._sweep(detector, suite), None
        else:
            measurements, rows = self._origin(detector, suite)
        return Pairing(detector, suite, measurements, published_as, rows)

    def _judged(self, detector: Measured, suite: Suite, level: Level) -> Judged:
        items, calibration = self.items(suite, level), self.calibration(suite)
        return judge(
            detector,
            suite,
            items,
            calibration,
            self._table(
                detector, level.root, items.items, calibration.items if calibration else ()
            ),
            self.settings.protocol,
            self.settings.seed,
        )

    def _origin(self, detector: Measured, suite: Suite) -> tuple[Measurements, pa.Table]:
        settings = self.settings
        (level,) = levels(suite, settings)
        judged = self._judged(detector, suite, level)
        parts = slices_of(suite, judged, settings.protocol, settings.seed)
        held: dict[str, Any] = {}
        if suite.name == FOLDER:
            judged = resampled(judged, settings.resample_by, level.root)
            parts, held = own_slices(detector, judged, settings, level.root)
        in_table = parts[1:] if suite.slices else [p for p in parts if p[0] == "generator"]
        fields = self._fields(detector, suite, level) | _judged_fields(judged)
        trained = _trained(detector, judged, level.root)
        kept, unknown = promise(judged, level.root)
        fields["notes"] = (*trained, *_view(detector, suite), *judged.notes, *unknown)
        calibration = judged.calibration
        fields["operating_point"] = calibration.operating_point if calibration else None
        fields["false_positives"] = kept
        fields |= held | {"evidence": evidence_key(suite.name, detector.name)}
        names = {str(file): name for name, file in suite.slices.items()}
        measurements = origin_measurements(
            fields, judged, parts, in_table, names, settings.seed, settings.resamples
        )
        return measurements, evidence(judged, level.root)

    def _sweep(self, detector: Measured, suite: Suite) -> Measurements:
        found = {
            level.name: (level.value, self._judged(detector, suite, level))
            for level in levels(suite, self.settings)
        }
        one = next(iter(found.values()))[1]
        first = next(levels(suite, self.settings))
        fields = self._fields(detector, suite, first) | _judged_fields(one)
        tests = {name: (value, judged.test) for name, (value, judged) in found.items()}
        return sweep_measurements(fields, tests, self.settings.seed, self.settings.resamples)

    def _identification(
        self, detector: Measured, suite: Suite
    ) -> tuple[Measurements, pa.Table | None]:
        asked = suite.model_copy(update={"task": "identification"})
        found: dict[str, Any] = {}
        rows = None
        for level in levels(asked, self.settings):
            items = self.items(asked, level)
            scores = self._table(detector, level.root, items.items)
            truth, probabilities, classes, rows = class_probabilities(
                detector, asked, items, scores
            )
            groups = np.asarray(items.photographs_N, dtype=np.str_)
            found[level.name] = (level.value, (truth, probabilities, groups))
        published = {code: name for name, code in asked.slices.items()}
        codes = {name: code for code, name in asked.labels().names(asked.column).items()}
        fields = self._fields(detector, asked, next(levels(asked, self.settings))) | {
            "calibration_hash": None,
            "calibration": "none: the class of the highest logit",
            "threshold": decides_at(None),
            "band": None,
            "resampled": "images",
            "num_groups": rows.num_rows if rows is not None else 0,
            "classes": classes,
            "names": [published.get(codes[name], name) for name in classes],
            "column": asked.column,
            "notes": (
                *_view(detector, suite),
                *(f"left out: {n:,} {why}" for why, n in items.dropped.items()),
            ),
        }
        measurements = identification_measurements(
            fields, found, self.settings.seed, self.settings.resamples
        )
        return measurements, None

    def _fields(self, detector: Measured, suite: Suite, level: Level) -> dict[str, Any]:
        return {
            "suite": suite.name,
            "test_set": suite.title,
            "task": detector.task,
            "protocol": self.settings.protocol,
            "detector_name": detector.name,
            "detector": detector.uri,
            "view": detector.view,
            "annotations": tuple(level.uris),
            "scheme": suite.scheme,
            "detector_hash": detector.hash,
            "axis": suite.sweep.axis if suite.sweep else "",
            "evidence": "",
        }


def _view(detector: Measured, suite: Suite) -> tuple[str, ...]:
    """A remark where the detector sees another square than the original's did."""
    seen = detector.spec.preprocessing.size
    if suite.view_px is None or suite.view_px == seen:
        return ()
    text = f"the published figures are of detectors that saw {suite.view_px} px, not {seen}"
    return (f"{text} (--view-size {suite.view_px} shows them as much)",)


def _trained(detector: Measured, judged: Judged, root: str | None) -> tuple[str, ...]:
    """A remark where the detector has seen what it is measured on."""
    seen = trained_on(detector.spec.provenance, root)
    paths = {item_id(path) for path in judged.rows["path"].to_pylist()} if seen else set()
    if not paths & seen:
        return ()
    return (
        f"{NOT_A_TEST}: {len(paths & seen):,} of {len(paths):,} images are in the lists that "
        "the detector was trained on",
    )


def _judged_fields(judged: Judged) -> dict[str, Any]:
    calibration = judged.calibration
    return {
        "calibration_hash": calibration.hash if calibration else None,
        "calibration": judged.calibrated,
        "threshold": judged.test.threshold,
        "band": calibration.band if calibration else None,
        "holds_at": calibration.holds_at if calibration else None,
        "resampled": "images" if judged.test.groups_N is None else "photographs",
        "num_groups": judged.test.num_groups,
        "notes": judged.notes,
    }
