"""Evaluation from images: sweeps are perturbed, missing scores predicted, every table measured."""

import contextlib
import shlex
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from rayapp.cluster.session import kept_open
from rayapp.config.errors import JobFailed, UserError
from rayapp.config.paths import slug
from rayapp.config.scoring import ScoringSettings
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import item_id
from rayapp.dataset.leakage import leaks
from rayapp.dataset.suites import Suite
from rayapp.evaluate.bench import Bench
from rayapp.evaluate.case_changes import Asked, asked_of
from rayapp.evaluate.detectors import Measured, load_all
from rayapp.evaluate.embedding import EmbedSettings
from rayapp.evaluate.evaluation_inputs import CSV_FILE
from rayapp.evaluate.judge import refuse_calibration
from rayapp.evaluate.levels import levels, lists_folder, sweep_perturbation
from rayapp.evaluate.settings import EvaluateJobSettings, EvaluateSettings, load_suites
from rayapp.jobs.evaluate_embedding import EMBEDDING_FILE, embed
from rayapp.jobs.evaluate_tables import evaluate
from rayapp.jobs.perturb import perturb
from rayapp.jobs.predict_missing import score_missing
from rayapp.metrics.evaluation import EVALUATION_FILE, Results
from rayapp.models.folder import load_detector, save_detector
from rayapp.perturb.settings import PerturbSettings
from rayapp.run import record
from rayapp.run.concurrency import as_completed
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store

_FEW = 16  # images whose bytes are looked at before any is scored


def measure(settings: EvaluateJobSettings) -> record.Run:
    """Perturb, predict, embed and evaluate, each as far as it is not done.

    Raises:
        UserError: see evaluate; JobFailed where no image can be read.
    """
    if not settings.root and not settings.scores:
        raise UserError("give --root, the folder of the images, or --scores, where they are scored")
    output = settings.output.rstrip("/")
    kept = settings.scores or ((f"{output}-scores",) if settings.root else ())
    fields = settings.model_dump(include=set(EvaluateSettings.model_fields))
    sweeps = settings.sweeps or f"{output}-sweeps"
    asked = EvaluateSettings(**fields | {"scores": kept, "sweeps": sweeps})
    suites = load_suites(asked)
    asked, detectors = _seen_as(settings, asked)
    with kept_open():
        if settings.root:
            for suite in suites:
                if suite.sweep is not None:
                    _perturb(suite, asked, settings)
            _refuse_calibrated(asked, detectors, suites)
            needed = _needed(asked, detectors, suites)
            for (at, root), paths in needed.items():
                detector = detectors[at]
                score_missing(
                    (detector.uri, detector.hash),
                    paths,
                    root,
                    kept,
                    kept[0],
                    _scoring(settings),
                    settings,
                )
            if known := asked_of(asked, detectors):
                _score_cases(known, detectors, kept, settings)
            if settings.embedding:
                _embed(detectors, asked, suites, settings)
        return evaluate(asked, command=_command())


def _score_cases(
    known: Asked,
    detectors: Sequence[Measured],
    kept: tuple[str, ...],
    settings: EvaluateJobSettings,
) -> None:
    """Known cases by each detector and the last one; one that can't be scored is told later."""
    for detector in (*detectors, *([known.last] if known.last else [])):
        with contextlib.suppress(JobFailed):
            score_missing(
                (detector.uri, detector.hash),
                known.cases.known,
                str(settings.root),
                kept,
                kept[0],
                _scoring(settings),
                settings,
            )


def _seen_as(
    settings: EvaluateJobSettings, asked: EvaluateSettings
) -> tuple[EvaluateSettings, list[Measured]]:
    """The detectors under the view that was asked for, each kept where it can be used again."""
    own = load_all(asked.detector, asked.names)
    if not settings.view and not settings.view_size:
        return asked, own
    uris = []
    for one in own:
        store = open_store(f"{settings.output.rstrip('/')}-seen/{slug(one.name)}")
        detector = load_detector(one.uri)
        seen = detector.seen_as(settings.view, settings.view_size)
        if seen is not detector:
            save_detector(seen, store)
        uris.append(one.uri if seen is detector else store.root)
    names = tuple(one.name for one in own)
    asked = asked.model_copy(update={"detector": tuple(uris), "names": names})
    return asked, load_all(asked.detector, names)


def _scoring(settings: EvaluateJobSettings) -> ScoringSettings:
    return ScoringSettings(**settings.model_dump(include=set(ScoringSettings.model_fields)))


def _command() -> str:
    """What the user typed."""
    job, *options = sys.argv
    start = job.split() if job.startswith("imaginet ") else ["python", job]
    return shlex.join([*start, *options])


def _perturb(suite: Suite, asked: EvaluateSettings, settings: EvaluateJobSettings) -> None:
    folder = lists_folder(asked, suite)
    store = open_store(folder)
    there = [name for name in suite.lists if store.stat(name) is not None]
    if not there:
        raise UserError(
            f"{folder}: none of the lists of suite {suite.name} is there ({', '.join(suite.lists)})"
        )
    perturbation = sweep_perturbation(suite, asked)
    perturb(
        PerturbSettings(
            annotations=tuple(f"{folder}/{name}" for name in there),
            root=str(settings.root),
            perturbation=perturbation,
            scheme=suite.scheme,
            seed=settings.seed,
            draws=settings.protocol,
            output=f"{str(asked.sweeps).rstrip('/')}/{perturbation}",
            **settings.model_dump(include={"cpus", "on_ray", "wait_s", "verbose", "overwrite"}),
        )
    )


def _needed(
    asked: EvaluateSettings, detectors: Sequence[Measured], suites: Sequence[Suite]
) -> dict[tuple[int, str], set[str]]:
    """(detector, root) → paths of every image that some table asks for."""
    bench = Bench(asked, detectors)
    found: dict[tuple[int, str], set[str]] = defaultdict(set)
    for suite in suites:
        for at, detector in enumerate(detectors):
            if suite.sweep is None and suite.task != detector.task:
                continue
            for level in levels(suite, asked):
                assert level.root is not None
                items = bench.items(suite, level).items
                calibration = bench.calibration(suite) if detector.task == "origin" else None
                items = items + (calibration.items if calibration else [])
                found[at, level.root] |= {item.path for item in items}
    return found


def _refuse_calibrated(
    asked: EvaluateSettings, detectors: Sequence[Measured], suites: Sequence[Suite]
) -> None:
    """Refuse a test set with a detector's calibration images before any image is scored.

    Looked at are the paths, and the bytes of those that agree and of a few more: a whole list
    that is known by other paths shows so too. Once all are scored, `judge` compares the bytes of
    every image.
    """
    if asked.protocol != "clean":
        return
    bench = Bench(asked, detectors)
    for detector in detectors:
        if detector.calibrated_on is None:
            continue
        known = set(detector.calibrated_on["path"].to_pylist())
        for suite in (one for one in suites if one.task == "origin"):
            for level in levels(suite, asked):
                paths = [item_id(item.path) for item in bench.items(suite, level).items]
                looked_at = {path for path in paths if path in known}
                looked_at |= set(paths[:: max(1, len(paths) // _FEW)])
                rows = _known(paths, looked_at, level.root)
                if leaks(detector.calibrated_on, rows).num_rows:  # then how many, of all
                    rows = _known(paths, set(paths), level.root)
                refuse_calibration(detector, suite, rows)


def _known(paths: Sequence[str], looked_at: set[str], root: str | None) -> pa.Table:
    """The paths, and the sha256 of those images that are looked at."""
    hashes = dict(as_completed(partial(_hash, open_store(str(root))), looked_at, _FEW))
    return pa.table({"path": paths, "sha256": [hashes.get(path) for path in paths]})


def _hash(root: Store, path: str) -> tuple[str, str | None]:
    try:
        return path, sha256(root.get(path))
    except OSError:  # scoring says so, or the image lies in a tile store
        return path, None


def _embed(
    detectors: Sequence[Measured],
    asked: EvaluateSettings,
    suites: Sequence[Suite],
    settings: EvaluateJobSettings,
) -> None:
    """The features of some images of the first suite of each detector, in two dimensions."""
    for detector in (one for one in detectors if one.has_features):
        plain = [one for one in suites if one.sweep is None and one.task == detector.task]
        for (_, root), paths in _needed(asked, [detector], plain[:1]).items():
            embed(
                EmbedSettings(
                    detector=detector.uri,
                    root=root,
                    num_images=settings.embedding,
                    seed=settings.seed,
                    output=embedding_uri(settings.output, detector.name),
                    overwrite=True,
                    **settings.model_dump(include={"cpus", "on_ray", "wait_s", "verbose"}),
                    **_scoring(settings).model_dump(),
                ),
                sorted(paths),
            )


def places_of(results: Results) -> dict[str, str]:
    """What was written, by what it is."""
    places = {"figures": EVALUATION_FILE, "all in one": CSV_FILE}
    places |= {"as published": "tables"} if results.evaluations else {}
    places |= {"changed sides": "changed"} if results.changes else {}
    return places | ({"known cases": "regressions"} if results.regressions else {})


def embedding_uri(output: str, name: str) -> str:
    """Where the embedding of a detector's features lies."""
    return f"{output.rstrip('/')}-embedding/{slug(name)}"


def embedding_uris(output: str, results: Results) -> list[str]:
    """The embeddings that are there."""
    names = dict.fromkeys(one.detector_name for one in results.evaluations)
    uris = [embedding_uri(output, name) for name in names]
    return [uri for uri in uris if open_store(uri).stat(EMBEDDING_FILE) is not None]
