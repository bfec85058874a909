"""Evaluation on Ray: detectors × suites × slices measured side by side, from stored scores."""

from collections.abc import Callable, Sequence
from typing import Any

from rayapp.cluster.session import as_completed, on_demand, spared, start
from rayapp.dataset.manifest import write_table
from rayapp.dataset.reference_figures import load_published
from rayapp.dataset.scores import require_scores
from rayapp.dataset.suites import Suite
from rayapp.evaluate.bench import Bench, Pairing
from rayapp.evaluate.case_changes import asked_of, cases_digest, regressions_of
from rayapp.evaluate.csv_tables import as_csv, published_tables
from rayapp.evaluate.detectors import load_all
from rayapp.evaluate.evaluation_inputs import (
    CSV_FILE,
    _changes,
    _check,
    _comparisons,
    _inputs,
    _is_of_now,
    _record,
    _spreads,
)
from rayapp.evaluate.left_out import gather
from rayapp.evaluate.measurements import Task
from rayapp.evaluate.settings import PLACEMENT, EvaluateSettings, load_suites
from rayapp.metrics.changes import Changes
from rayapp.metrics.evaluation import EVALUATION_FILE, Comparison, Evaluation, Results
from rayapp.metrics.regressions import Regressions
from rayapp.run import record
from rayapp.run.progress import Progress
from rayapp.run.resume import nothing_left

_MOST_HERE = 20_000  # images × slices that are measured sooner in this process than Ray starts


def evaluate(settings: EvaluateSettings, *, command: str = "") -> record.Run:
    """Write metrics.json, metrics.csv, tables/ as the original wrote them, evidence/ and changed/.

    Of known cases regressions/ too.

    Raises:
        UserError: a list, a score or a detector is missing, a name is unknown, or an image that
            a detector was calibrated on is in its test set (`clean`).
    """
    detectors = load_all(settings.detector, settings.names)
    suites = load_suites(settings)
    _check(settings, detectors, suites)
    asked = asked_of(settings, detectors)
    bench = Bench(settings, detectors)
    require_scores(settings.scores)
    pairings = bench.pairings(suites)
    cases = list(regressions_of(asked, detectors, settings)) if asked else []
    inputs = _inputs(detectors, suites, bench, pairings) | cases_digest(cases)
    run = record.start(
        "evaluate",
        settings,
        inputs,
        output=settings.output,
        overwrite=settings.overwrite,
        placement=PLACEMENT,
    )
    if nothing_left(run) and _is_of_now(run):
        _record(run, settings)
        return run
    with on_demand(settings):
        here = spared() and _few(pairings)
        if not here:
            start()
        run.claim()
        measured = _measured(pairings, settings, _here if here else _on_ray)
    changes = _changes(pairings, run.store)
    for one, text in cases:
        run.store.put(one.file, text.encode())
    results = _results(settings, measured, changes, [one for one, _ in cases], command)
    published = _write(run, results, pairings, suites)
    judged = [one.measurements.judged for one in pairings]
    counts = {
        "detectors": len(detectors),
        "suites": len(suites),
        "in": max((len(one.items.items) if one else 0 for one in judged), default=0),
        "slices": sum(len(one.slices) for one in results.evaluations),
        **({"known_cases": len(asked.cases.known)} if asked else {}),
    }
    run.finish(counts, made=(EVALUATION_FILE, CSV_FILE, *published))
    _record(run, settings)
    return run


def _results(
    settings: EvaluateSettings,
    measured: tuple[list[Evaluation], list[Comparison]],
    changes: list[Changes],
    regressions: list[Regressions],
    command: str,
) -> Results:
    """All that was measured, and what it was asked with."""
    evaluations, comparisons = measured
    return Results(
        protocol=settings.protocol,
        seed=settings.seed,
        resamples=settings.resamples,
        evaluations=evaluations,
        comparisons=comparisons,
        changes=changes,
        left_out=gather(settings.leave_out, evaluations) if settings.leave_out else [],
        spreads=_spreads(evaluations) if settings.same_recipe else [],
        regressions=regressions,
        command=command,
    )


def _write(
    run: record.Run, results: Results, pairings: Sequence[Pairing], suites: Sequence[Suite]
) -> list[str]:
    """Write the figures and their evidence; the files of the tables as the original wrote them."""
    for one, evaluation in zip(pairings, results.evaluations, strict=True):
        if one.evidence is not None:
            write_table(run.store, evaluation.evidence, one.evidence)
    run.store.put(EVALUATION_FILE, results.model_dump_json(indent=1).encode())
    run.store.put(CSV_FILE, as_csv(results.evaluations).encode())
    published = published_tables(results.evaluations, suites)
    for key, text in published.items():
        run.store.put(key, text.encode())
    return list(published)


def _few(pairings: Sequence[Pairing]) -> bool:
    """Whether all is measured before Ray would have started."""
    judged = [one.measurements.judged for one in pairings if one.measurements.judged]
    tasks = sum(len(one.measurements.tasks) for one in pairings)
    few = sum(one.rows.num_rows for one in judged) * tasks <= _MOST_HERE
    return few and len(judged) == len(pairings)


def _measured(
    pairings: Sequence[Pairing],
    settings: EvaluateSettings,
    measure: Callable[[dict[Any, Task]], dict[Any, Any]],
) -> tuple[list[Evaluation], list[Comparison]]:
    tasks: dict[tuple[int, str], Task] = {
        (at, name): task
        for at, one in enumerate(pairings)
        for name, task in one.measurements.tasks.items()
    }
    pairs = {(-1, str(k)): task for k, task in enumerate(_comparisons(pairings, settings))}
    found = measure(tasks | pairs) if tasks else {}  # known cases alone have no slices
    published = load_published()
    evaluations = [
        one.measurements.evaluation(
            {name: found[at, name] for name in one.measurements.tasks},
            published.pairs(one.suite.published, one.published_as),
        )
        for at, one in enumerate(pairings)
    ]
    return evaluations, [one for key in pairs for one in found[key]]


def _here(tasks: dict[Any, Task]) -> dict[Any, Any]:
    """Every task, one after the other."""
    found = {}
    with Progress("evaluate", len(tasks), unit="slices") as progress:
        for key, task in tasks.items():
            found[key] = _call(task.call, task.arguments, *task.shared)
            progress.update()
    return found


def _on_ray(tasks: dict[Any, Task]) -> dict[Any, Any]:
    """Every task as a Ray task; what they share is put into the object store once."""
    import ray

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
        for key, value in as_completed(pending):
            found[key] = value
            progress.update()
    return found


def _call(call: Any, arguments: tuple[Any, ...], *shared: Any) -> Any:
    return call(*shared, *arguments)
