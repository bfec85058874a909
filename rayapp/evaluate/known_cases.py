"""Known cases: what a review's marks say that images are, and what was said of them before."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.labels import item_id, load_scheme, read_list
from rayapp.dataset.marks import read_marks
from rayapp.metrics.evaluation import EVALUATION_FILE, Evaluation, read_results
from rayapp.models.folder import SPEC_FILE, own_store
from rayapp.models.verdicts import REAL, SYNTHETIC, UNCALIBRATED, UNSURE
from rayapp.storage.store import Store

_SHEET = "scores.csv"  # as predict writes it for people: what it told
Told = dict[str, tuple[str, float | None]]  # path → verdict, probability


@dataclass(frozen=True)
class KnownCases:
    """Path → real or synthetic, in the order of the lists; and how many were marked unclear."""

    known: dict[str, str]
    left_out: int


def read_cases(uris: Sequence[str], scheme: str) -> KnownCases:
    """The cases of some lists.

    Args:
        uris: marks of a gallery (see `read_marks`), or annotation lists.
        scheme: of annotation lists.

    Raises:
        UserError: no such list, a wrong line, or an image that two lists call differently.
    """
    known: dict[str, str] = {}
    where: dict[str, str] = {}
    left_out = 0
    for uri in uris:
        origins, num_unclear = _origins_of(uri, scheme)
        left_out += num_unclear
        for path, origin in origins.items():
            word = SYNTHETIC if origin else REAL
            if known.setdefault(path, word) != word:
                raise UserError(f"{path}: {known[path]} in {where[path]}, {word} in {uri}")
            where.setdefault(path, uri)
    return KnownCases(known, left_out)


def _origins_of(uri: str, scheme: str) -> tuple[dict[str, int], int]:
    try:
        marks = read_marks([uri], "uniform")
    except UserError:
        labels = load_scheme(scheme)
        if "origin" not in labels.columns or len(labels.columns) == 1:
            raise
        found = read_list(uri, labels, on_defect="collect")
        if found.defects or not found.items:
            raise
        paths = (item_id(item.path) for item in found.items)
        return dict(zip(paths, found.column("origin"), strict=True)), 0
    return marks.origins, marks.num_unclear


def told_before(uri: str) -> Told | None:
    """What an earlier run of evaluate or predict said of its images; None: it is no such output.

    Raises:
        UserError: it is one, but which detector is meant can't be told, or it has no words.
    """
    store = own_store(uri)
    if store is None or store.stat(SPEC_FILE) is not None:
        return None
    if store.stat(EVALUATION_FILE) is not None:
        return _evaluated(uri, store)
    if store.stat(_SHEET) is not None:
        return _predicted(store)
    if store.stat("scores/_manifest") is not None:
        raise UserError(
            f"against {uri}: a large set's output has no {_SHEET}; give the detector's folder, "
            "and the output to --scores"
        )
    return None


def _predicted(store: Store) -> Told:
    lines = csv.DictReader(io.StringIO(store.get(_SHEET).decode("utf-8-sig"), newline=""))
    return {item_id(line["path"]): _as_told(line["verdict"], line["probability"]) for line in lines}


def _as_told(verdict: str, probability: str) -> tuple[str, float | None]:
    word = verdict.removesuffix(f" ({UNCALIBRATED})")
    return word, float(probability) if probability else None


def _evaluated(uri: str, store: Store) -> Told:
    """Of the images of all suites, and of the known cases of that time, which go first."""
    results = read_results(store)
    names = {one.detector_name for one in (*results.evaluations,) if one.evidence}
    names |= {one.detector for one in results.regressions}
    if len(names) > 1:
        raise UserError(
            f"against {uri}: measured several detectors ({', '.join(sorted(names))}); give the "
            "folder of the one that is meant"
        )
    found: Told = {}
    for evaluation in results.evaluations:
        if evaluation.evidence:
            found |= _from_evidence(store, evaluation)
    for one in results.regressions:
        lines = csv.DictReader(io.StringIO(store.get(one.file).decode(), newline=""))
        found |= {
            item_id(line["path"]): _as_told(line["now"], line["p_now"])
            for line in lines
            if line["now"]
        }
    return found


def _from_evidence(store: Store, evaluation: Evaluation) -> Told:
    table = manifest.read_table(store, evaluation.evidence)
    p_N = table["probability"].to_numpy()
    low, high = evaluation.band or (evaluation.threshold, evaluation.threshold)
    words_N = np.where(p_N >= high, SYNTHETIC, np.where(p_N < low, REAL, UNSURE))
    paths = map(item_id, table["path"].to_pylist())
    return {path: (str(word), float(p)) for path, word, p in zip(paths, words_N, p_N, strict=True)}
