"""What evaluate checks and hashes before it measures."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rayapp.config.errors import UserError
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import load_scheme
from rayapp.dataset.reference_figures import load_published
from rayapp.evaluate.changed_images import list_changes
from rayapp.evaluate.measurements import Task, compare
from rayapp.evaluate.scopes import record_scopes
from rayapp.metrics.evaluation import SeedSpread, read_results
from rayapp.metrics.slices import spread
from rayapp.run import record
from rayapp.storage.uris import read_uri

if TYPE_CHECKING:
    from rayapp.dataset.labels import LabelScheme
    from rayapp.dataset.suites import Suite
    from rayapp.evaluate.bench import Bench, Pairing
    from rayapp.evaluate.detectors import Measured
    from rayapp.evaluate.judge import Judged
    from rayapp.evaluate.settings import EvaluateSettings
    from rayapp.metrics.changes import Changes
    from rayapp.metrics.evaluation import Evaluation
    from rayapp.storage.store import Store

CSV_FILE = "metrics.csv"


def _record(run: record.Run, settings: EvaluateSettings) -> None:
    """Say in each detector's folder what was measured, and say that it was said."""
    if settings.record:
        for line in record_scopes(read_results(run.store), run.found["finished"]):
            print(line)


def _is_of_now(run: record.Run) -> bool:
    """Whether the figures are such as this version writes; says so where they are not."""
    try:
        read_results(run.store)
    except UserError as error:
        print(f"{error}; it is done again", file=sys.stderr)
        return False
    return True


def _check(
    settings: EvaluateSettings, detectors: Sequence[Measured], suites: Sequence[Suite]
) -> None:
    tasks = {detector.task for detector in detectors}
    for suite in suites:
        if suite.sweep is None and suite.task not in tasks:
            kind = "one output" if suite.task == "origin" else "one output a class"
            raise UserError(f"suite {suite.name} asks for a detector with {kind}; none is given")
    for detector in detectors if suites else ():
        if all(suite.sweep is None and suite.task != detector.task for suite in suites):
            raise UserError(f"{detector.name}: no suite asks for a detector of {detector.task}")
    for name in settings.published_as:
        load_published().pairs(None, name)
    if len(settings.published_as) not in {1, len(detectors)}:
        raise UserError(
            f"published_as: {len(settings.published_as)} names for "
            f"{len(detectors)} detectors; give one, or one each"
        )
    if settings.held_out:
        _check_held_out(settings.held_out, load_scheme(settings.scheme))


def _check_held_out(held_out: tuple[str, ...], scheme: LabelScheme) -> None:
    if "generator" not in scheme.columns:
        raise UserError(f"held_out: label scheme {scheme.name} has no column generator")
    columns = [column for column in ("generator", "model") if column in scheme.columns]
    known = dict.fromkeys(name for column in columns for name in scheme.names(column).values())
    for name in held_out:
        if name not in known:
            raise UserError(
                f"held_out: {name!r} is no generator or model (known: {', '.join(known)})"
            )


def _inputs(
    detectors: Sequence[Measured],
    suites: Sequence[Suite],
    bench: Bench,
    pairings: Sequence[Pairing],
) -> dict[str, str]:
    """What the figures depend on, by hash; of the scores only those that are measured."""
    found = {}
    for detector in detectors:
        calibration = detector.spec.calibration
        found[f"detector {detector.uri}"] = detector.hash
        found[f"calibration {detector.uri}"] = calibration.hash if calibration else ""
    for suite in suites:
        found[f"suite {suite.name}"] = record.digest(suite.model_dump_json().encode())
        for uri in bench.list_uris(suite):
            found[uri] = sha256(read_uri(uri))
    for one in pairings:
        found[f"scores {one.suite.name} {one.detector.name}"] = one.measurements.fingerprint
    return found


def _pairs(
    pairings: Sequence[Pairing],
) -> Iterator[tuple[Pairing, tuple[str, Judged], tuple[str, Judged]]]:
    """Every two detectors that were measured on the same rows of a suite; the first with all."""
    for first, second in itertools.combinations(pairings, 2):
        a, b = first.measurements.judged, second.measurements.judged
        if first.suite.name != second.suite.name or a is None or b is None:
            continue
        # Where other calibration images were left out, the rows are not the same.
        if [i.id for i in a.items.items] == [i.id for i in b.items.items]:
            yield first, (first.detector.name, a), (second.detector.name, b)


def _comparisons(pairings: Sequence[Pairing], settings: EvaluateSettings) -> list[Task]:
    """One task a pair of detectors."""
    return [
        Task(
            compare,
            (),
            (
                (a, first.test),
                (b, second.test),
                one.suite.name,
                one.measurements.parts,
                settings.seed,
                settings.resamples,
            ),
        )
        for one, (a, first), (b, second) in _pairs(pairings)
    ]


def _changes(pairings: Sequence[Pairing], store: Store) -> list[Changes]:
    """List the images that change sides, pair by pair."""
    found = []
    for one, first, second in _pairs(pairings):
        changes, text = list_changes(one.suite.name, first, second)
        store.put(changes.file, text.encode())
        found.append(changes)
    return found


def _spreads(evaluations: Sequence[Evaluation]) -> list[SeedSpread]:
    """The headline figures of every slice over the detectors of one suite."""
    found = []
    for suite in dict.fromkeys(one.suite for one in evaluations):
        several = [one for one in evaluations if one.suite == suite]
        for part in several[0].table:
            for figure in several[0].headline:
                same = [s for one in several for s in one.table if s.name == part.name]
                values = [s.figures[figure].value for s in same if figure in s.figures]
                known = [value for value in values if value is not None]
                if len(known) > 1:
                    over = spread(known)
                    found.append(
                        SeedSpread(
                            suite=suite,
                            slice=part.name,
                            figure=figure,
                            num_runs=over.num_runs,
                            mean=over.mean,
                            std=over.std,
                            minimum=over.minimum,
                            maximum=over.maximum,
                        )
                    )
    return found
