"""Evaluation on Ray: detectors × suites × slices measured side by side, from stored scores."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from rayapp import cluster, runs
from rayapp.errors import UserError
from rayapp.evaluate.changes import list_changes
from rayapp.evaluate.detectors import Measured, load_all
from rayapp.evaluate.judge import Judged
from rayapp.evaluate.plans import Bench, Planned
from rayapp.evaluate.scopes import record_scopes
from rayapp.evaluate.settings import PLACEMENT, EvaluateSettings, load_suites
from rayapp.evaluate.tables import as_csv, published_tables
from rayapp.evaluate.work import Task, compare
from rayapp.images import sha256
from rayapp.labels import LabelScheme, load_scheme
from rayapp.manifest import write_table
from rayapp.metrics.changes import Changes
from rayapp.metrics.evaluation import EVALUATION_FILE, Comparison, Evaluation, Results, SeedSpread
from rayapp.metrics.slices import spread
from rayapp.progress import Progress
from rayapp.published import load_published
from rayapp.scores import require_scores
from rayapp.storage import Store, read_uri
from rayapp.suites import Suite

__all__ = ["CSV_FILE", "EvaluateSettings", "evaluate"]

CSV_FILE = "metrics.csv"


def evaluate(settings: EvaluateSettings, *, command: str = "") -> runs.Run:
    """Write metrics.json, metrics.csv, tables/ as the original wrote them, evidence/ and changed/.

    Raises:
        UserError: a list, a score or a detector is missing, a name is unknown, or an image that
            a detector was calibrated on is in its test set (`clean`).
    """
    detectors = load_all(settings.detector, settings.names)
    suites = load_suites(settings)
    _check(settings, detectors, suites)
    bench = Bench(settings, detectors)
    require_scores(settings.scores)
    planned = bench.plan(suites)
    inputs = _inputs(detectors, suites, bench, planned)
    run = runs.start(
        "evaluate",
        settings,
        inputs,
        output=settings.output,
        overwrite=settings.overwrite,
        placement=PLACEMENT,
    )
    if run.state == "done":
        _record(run, settings)
        return run
    with cluster.session(settings):
        run.claim()
        evaluations, comparisons = _measured(planned, settings)
    for one, evaluation in zip(planned, evaluations, strict=True):
        if one.evidence is not None:
            write_table(run.store, evaluation.evidence, one.evidence)
    results = Results(
        protocol=settings.protocol,
        seed=settings.seed,
        resamples=settings.resamples,
        evaluations=evaluations,
        comparisons=comparisons,
        changes=_changes(planned, run.store),
        spreads=_spreads(evaluations) if settings.same_recipe else [],
        command=command,
    )
    run.store.put(EVALUATION_FILE, results.model_dump_json(indent=1).encode())
    run.store.put(CSV_FILE, as_csv(evaluations).encode())
    published = published_tables(evaluations, suites)
    for key, text in published.items():
        run.store.put(key, text.encode())
    images = max(len(one.plan.judged.items.items) if one.plan.judged else 0 for one in planned)
    counts = {"detectors": len(detectors), "suites": len(suites), "in": images}
    counts["slices"] = sum(len(one.slices) for one in evaluations)
    run.finish(counts, made=(EVALUATION_FILE, CSV_FILE, *published))
    _record(run, settings)
    return run


def _record(run: runs.Run, settings: EvaluateSettings) -> None:
    """Say in each detector's folder what was measured, and say that it was said."""
    if settings.record:
        results = Results.model_validate_json(run.store.get(EVALUATION_FILE))
        for line in record_scopes(results, run.found["finished"]):
            print(line)


def _check(
    settings: EvaluateSettings, detectors: Sequence[Measured], suites: Sequence[Suite]
) -> None:
    tasks = {detector.task for detector in detectors}
    for suite in suites:
        if suite.sweep is None and suite.task not in tasks:
            kind = "one output" if suite.task == "origin" else "one output a class"
            raise UserError(f"suite {suite.name} asks for a detector with {kind}; none is given")
    for detector in detectors:
        if all(suite.sweep is None and suite.task != detector.task for suite in suites):
            raise UserError(f"{detector.name}: no suite asks for a detector of {detector.task}")
    for name in settings.published_as:
        load_published().pairs(None, name)
    if len(settings.published_as) not in {1, len(detectors)}:
        raise UserError(f"published_as: {len(settings.published_as)} names for "
                        f"{len(detectors)} detectors; give one, or one each")  # fmt: skip
    if settings.held_out:
        _check_held_out(settings.held_out, load_scheme(settings.scheme))


def _check_held_out(held_out: tuple[str, ...], scheme: LabelScheme) -> None:
    if "generator" not in scheme.columns:
        raise UserError(f"held_out: label scheme {scheme.name} has no column generator")
    known = scheme.names("generator").values()
    for name in held_out:
        if name not in known:
            raise UserError(f"held_out: {name!r} is no generator (known: {', '.join(known)})")


def _inputs(
    detectors: Sequence[Measured],
    suites: Sequence[Suite],
    bench: Bench,
    planned: Sequence[Planned],
) -> dict[str, str]:
    """What the figures depend on, by hash; of the scores only those that are measured."""
    found = {}
    for detector in detectors:
        calibration = detector.spec.calibration
        found[f"detector {detector.uri}"] = detector.hash
        found[f"calibration {detector.uri}"] = calibration.hash if calibration else ""
    for suite in suites:
        found[f"suite {suite.name}"] = runs.digest(suite.model_dump_json().encode())
        for uri in bench.list_uris(suite):
            found[uri] = sha256(read_uri(uri))
    for one in planned:
        found[f"scores {one.suite.name} {one.detector.name}"] = one.plan.fingerprint
    return found


def _measured(
    planned: Sequence[Planned], settings: EvaluateSettings
) -> tuple[list[Evaluation], list[Comparison]]:
    tasks: dict[tuple[int, str], Task] = {
        (at, name): task for at, one in enumerate(planned) for name, task in one.plan.tasks.items()
    }
    pairs = {(-1, str(k)): task for k, task in enumerate(_comparisons(planned, settings))}
    found = _on_ray(tasks | pairs)
    published = load_published()
    evaluations = [
        one.plan.evaluation(
            {name: found[at, name] for name in one.plan.tasks},
            published.pairs(one.suite.published, one.published_as),
        )
        for at, one in enumerate(planned)
    ]
    return evaluations, [one for key in pairs for one in found[key]]


def _on_ray(tasks: dict[Any, Task]) -> dict[Any, Any]:
    """Every task as a Ray task; what they share is put into the object store once."""
    stored: dict[int, Any] = {}
    remote = ray.remote(num_cpus=1)(_call)
    pending = {}
    for key, task in tasks.items():
        for value in task.shared:
            if id(value) not in stored:
                stored[id(value)] = ray.put(value)
        shared = [stored[id(value)] for value in task.shared]
        pending[remote.remote(task.call, task.arguments, *shared)] = key
    found = {}
    with Progress("evaluate", len(pending), unit="slices") as progress:
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            found[pending.pop(done)] = ray.get(done)
            progress.update()
    return found


def _call(call: Any, arguments: tuple[Any, ...], *shared: Any) -> Any:
    return call(*shared, *arguments)


def _pairs(
    planned: Sequence[Planned],
) -> Iterator[tuple[Planned, tuple[str, Judged], tuple[str, Judged]]]:
    """Every two detectors that were measured on the same rows of a suite, and the first's plan."""
    for first, second in itertools.combinations(planned, 2):
        a, b = first.plan.judged, second.plan.judged
        if first.suite.name != second.suite.name or a is None or b is None:
            continue
        # Where other calibration images were left out, the rows are not the same.
        if [i.id for i in a.items.items] == [i.id for i in b.items.items]:
            yield first, (first.detector.name, a), (second.detector.name, b)


def _comparisons(planned: Sequence[Planned], settings: EvaluateSettings) -> list[Task]:
    """One task a pair of detectors."""
    return [
        Task(compare, (), ((a, first.test), (b, second.test), one.suite.name, one.plan.parts,
                           settings.seed, settings.resamples))
        for one, (a, first), (b, second) in _pairs(planned)
    ]  # fmt: skip


def _changes(planned: Sequence[Planned], store: Store) -> list[Changes]:
    """List the images that change sides, pair by pair."""
    found = []
    for one, first, second in _pairs(planned):
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
                    found.append(SeedSpread(
                        suite=suite, slice=part.name, figure=figure, num_runs=over.num_runs,
                        mean=over.mean, std=over.std, minimum=over.minimum, maximum=over.maximum,
                    ))  # fmt: skip
    return found
