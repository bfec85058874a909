"""Drift: counts are read, compared with the reference, and told; in this process, at once."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import pyarrow.compute as pc

from rayapp.config.errors import UserError
from rayapp.dataset.marks import read_marks
from rayapp.drift.differences import BEFORE, Comparison, compare_days
from rayapp.drift.drift_page import drift_page
from rayapp.drift.known_reals import KnownReals, known_reals, marked_rows
from rayapp.drift.settings import DriftSettings
from rayapp.drift.sides import Sides, read_sides
from rayapp.drift.verdict import lines, outcome, prometheus, what_to_do
from rayapp.metrics.traffic import Traffic
from rayapp.metrics.traffic_files import REFERENCE_FILE
from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.verdicts import Judge
from rayapp.run import record
from rayapp.storage.uris import open_store

PAGE_FILE, FIGURES_FILE, METRICS_FILE = "drift.html", "drift.json", "drift.prom"


def drift(settings: DriftSettings) -> record.Run:
    """Compare, and write the page, the figures and the Prometheus lines.

    Raises:
        UserError: nothing to compare; see `read_sides`, `compare_days` and `known_reals`.
    """
    sides = read_sides(settings)
    calibration = _calibration(settings)
    reals = _reals(settings, sides, calibration)
    inputs = dict(_hashes(sides, reals))
    run = record.start(
        "drift", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if run.state == "done":
        return run
    classes = list(sides.reference.values())
    found = compare_days(
        sides.day,
        classes,
        settings.seed,
        same_decisions=sides.same_decisions,
        other=sides.other.day if sides.other else None,
        ending=sides.other.ending if sides.other else BEFORE,
    )
    word = outcome(found, reals)
    facts = {
        "counts": settings.counts,
        "against": settings.against,
        "detector": sides.traffic.detector,
        "calibration of the counts": sides.traffic.decided,
        "calibration's classes": ", ".join(sides.reference) or "not compared",
        "compared with": sides.compared_with,
        **{f"passed over {at}": text for at, text in enumerate(sides.passed_over, 1)},
    }
    run.claim()
    page = drift_page(sides, found, reals, calibration, dict(facts))
    run.store.put(PAGE_FILE, page.html().encode())
    results = _results(sides, found, reals, word)
    run.store.put(FIGURES_FILE, json.dumps(results, indent=1, ensure_ascii=False).encode())
    metrics = prometheus(sides.traffic.detector, word, found, reals)
    run.store.put(METRICS_FILE, metrics.encode())
    counts = {"images": found.num_scored, "not scored": found.num_not_scored}
    counts |= {"compared": len(found.shifts), "differ": len(found.found)}
    run.finish(counts, results, made=(PAGE_FILE, FIGURES_FILE, METRICS_FILE))
    return run


def _results(
    sides: Sides, found: Comparison, reals: KnownReals | None, word: str
) -> dict[str, object]:
    return {
        "days": list(sides.days),
        "outcome": word,
        "what_to_do": what_to_do(word),
        "comparisons": [asdict(one) | {"differs": one.found} for one in found.shifts],
        "verdicts": [
            asdict(one) | {"observed": one.observed, "interval": one.interval}
            for one in found.verdicts
        ],
        "false_positives": asdict(reals) | {"rate": reals.rate, "interval": reals.interval}
        if reals
        else None,
        "compared_with": sides.compared_with,
        "lines": [
            f"{sides.name} is compared with {sides.compared_with}",
            *lines(found, reals),
            *sides.passed_over,
        ],
    }


def _hashes(sides: Sides, reals: KnownReals | None) -> Iterator[tuple[str, str]]:
    yield "counts", record.digest(sides.traffic.to_json().encode())
    against = dict(sides.reference) | ({"other": sides.other.day} if sides.other else {})
    yield "against", record.digest(Traffic(days=against).to_json().encode())
    if reals:
        yield "marks", record.digest(repr(reals).encode())


def _calibration(settings: DriftSettings) -> Calibration | None:
    """The detector's own, where `against` is one."""
    if open_store(settings.against).stat(REFERENCE_FILE) is None:
        return None
    from rayapp.models.folder import read_spec  # brings torch

    return read_spec(settings.against)[0].calibration


def _reals(
    settings: DriftSettings, sides: Sides, calibration: Calibration | None
) -> KnownReals | None:
    if not settings.marks:
        return None
    if calibration is None:
        raise UserError(
            "--marks: goes with a calibrated detector as --against, which says from where on an "
            "image is called synthetic"
        )
    marks = read_marks(settings.marks, settings.sampled)
    scores = marked_rows(settings.scores, sides.traffic.detector, marks)
    there = scores.filter(pc.is_valid(scores["logit"]))["path"].to_pylist()
    if gone := marks.few_gone(set(there)):
        marks = read_marks(settings.marks, settings.sampled, gone).left_out(gone)
    return known_reals(marks, scores, Judge("", calibration), settings.scores, sides.days)
