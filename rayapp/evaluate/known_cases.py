"""Known cases: what a review's marks say that images are, and what was said of them before."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.labels import item_id, load_scheme, path_fault, read_list
from rayapp.metrics.evaluation import EVALUATION_FILE, Evaluation, Results
from rayapp.models.folder import SPEC_FILE, own_store
from rayapp.models.verdicts import REAL, SYNTHETIC, UNCALIBRATED, UNSURE
from rayapp.storage.store import Store
from rayapp.storage.uris import read_uri

REVIEWED = "reviewed"
_SHEET = "scores.csv"  # as predict writes it for people: what it told
_UNCLEAR = "unclear"
Told = dict[str, tuple[str, float | None]]  # path → verdict, probability


@dataclass(frozen=True)
class KnownCases:
    """Path → real or synthetic, in the order of the lists; and how many were marked unclear."""

    known: dict[str, str]
    left_out: int


def read_cases(uris: Iterable[str], scheme: str) -> KnownCases:
    """The cases of some lists.

    Args:
        uris: lists as the gallery saves them (`path,origin`), its table of all marks (with a line
            of headings, among them `path` and `mark`), or annotation lists.
        scheme: of annotation lists.

    Raises:
        UserError: no such list, a wrong line, or an image that two lists call differently.
    """
    known: dict[str, str] = {}
    where: dict[str, str] = {}
    left_out = 0
    for uri in uris:
        for path, word in _marks_of(uri, scheme):
            if word == _UNCLEAR:
                left_out += 1
            elif known.setdefault(path, word) != word:
                raise UserError(f"{path}: {known[path]} in {where[path]}, {word} in {uri}")
            where.setdefault(path, uri)
    if not known:
        raise UserError(f"regressions {', '.join(uris)}: no image is marked real or synthetic")
    return KnownCases(known, left_out)


def _marks_of(uri: str, scheme: str) -> list[tuple[str, str]]:
    """Path and mark of each line."""
    try:
        text = read_uri(uri).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{uri}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    rows = csv.reader(io.StringIO(text, newline=""))
    heads = next(rows, [])
    if {"path", "mark"} <= set(heads):
        return _table_of_marks(uri, heads, list(rows))
    wanted = load_scheme(REVIEWED)
    found = read_list(uri, wanted, on_defect="collect")
    if found.defects and "origin" in load_scheme(scheme).columns:
        labelled = read_list(uri, load_scheme(scheme), on_defect="collect")
        if len(labelled.defects) < len(found.defects):
            wanted, found = load_scheme(scheme), labelled
    if found.defects:
        raise UserError(f"{found.defects[0]}; known cases are lines of path,origin")
    words = (SYNTHETIC if origin == 1 else REAL for origin in found.column("origin"))
    return list(zip((item_id(item.path) for item in found.items), words, strict=True))


def _table_of_marks(uri: str, heads: list[str], rows: list[list[str]]) -> list[tuple[str, str]]:
    found = []
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        line = dict(zip(heads, row, strict=False))
        path, word = line.get("path", ""), line.get("mark", "")
        fault = path_fault(path.removeprefix("./"))
        if word not in (REAL, SYNTHETIC, _UNCLEAR):
            fault = fault or f"mark {word!r} is not {REAL}, {SYNTHETIC} or {_UNCLEAR}"
        if fault:
            raise UserError(f"{uri}: row {number}: {fault}")
        found.append((item_id(path), word))
    return found


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
    results = Results.model_validate_json(store.get(EVALUATION_FILE))
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
