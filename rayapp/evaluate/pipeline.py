"""Evaluation on Ray: the slices of a test set measured side by side, from stored scores."""

import csv
import io

import pyarrow as pa
import ray
from pydantic import Field

from rayapp import cluster, load_detector, runs
from rayapp.errors import UserError
from rayapp.images import sha256
from rayapp.labels import LabelScheme, load_scheme, read_list
from rayapp.metrics.binary import FIGURES
from rayapp.metrics.bootstrap import NUM_RESAMPLES
from rayapp.metrics.evaluation import (
    EVALUATION_FILE,
    Evaluation,
    Slice,
    TestSet,
    measure_slice,
)
from rayapp.models.detector import Detector
from rayapp.progress import Progress
from rayapp.scores import SCORES_FILE, read_scores, select
from rayapp.settings import JobSettings
from rayapp.storage import absolute_uri, open_store, read_uri

CSV_FILE = "metrics.csv"


class EvaluateSettings(JobSettings):
    """Measure a detector on a test set from its stored scores: figures with intervals, by slice."""

    detector: str = Field(description="folder or s3:// prefix of the (calibrated) detector")
    scores: str = Field(description="output of predict that holds the test images")
    annotations: str = Field(description="list of the test images")
    scheme: str = Field("imaginet", description="label scheme of the list")
    name: str = Field("test", description="name of the test set in tables")
    held_out: tuple[str, ...] = Field(
        (), description="generators (names of the scheme) that were never trained on"
    )
    resamples: int = Field(NUM_RESAMPLES, ge=100, description="bootstrap resamples")
    seed: int = Field(42, description="seed of the resampling")


def evaluate(settings: EvaluateSettings) -> runs.Run:
    """Write metrics.json and metrics.csv.

    Raises:
        UserError: scores of another detector, an image without a score, an unknown held-out name.
    """
    detector = load_detector(settings.detector)
    store = open_store(settings.scores)
    calibration = detector.spec.calibration
    inputs = {
        "detector": detector.hash(),
        "calibration": calibration.hash if calibration else "",
        "scores": sha256(read_uri(store.uri(SCORES_FILE))),
        "annotations": sha256(read_uri(settings.annotations)),
    }
    run = runs.start(
        "evaluate", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if run.state == "done":
        return run
    scheme = load_scheme(settings.scheme)
    _check_held_out(settings.held_out, scheme)
    items = read_list(settings.annotations, scheme).items
    table = select(read_scores(store, inputs["detector"]), items, scheme, settings.annotations)
    with cluster.session(settings):
        evaluation = _measure(table, scheme, detector, settings)
    run.store.put(EVALUATION_FILE, evaluation.model_dump_json(indent=1).encode())
    run.store.put(CSV_FILE, _as_csv(evaluation).encode())
    run.finish({"in": table.num_rows, "slices": len(evaluation.slices)})
    return run


def _check_held_out(held_out: tuple[str, ...], scheme: LabelScheme) -> None:
    if held_out and "generator" not in scheme.columns:
        raise UserError(f"held_out: label scheme {scheme.name} has no column generator")
    known = scheme.names("generator").values() if held_out else ()
    for name in held_out:
        if name not in known:
            raise UserError(f"held_out: {name!r} is no generator (known: {', '.join(known)})")


def _measure(
    table: pa.Table, scheme: LabelScheme, detector: Detector, settings: EvaluateSettings
) -> Evaluation:
    """All figures of a table of scores with label columns and, where known, groups."""
    calibration = detector.spec.calibration
    test = TestSet.of(table, scheme, calibration)
    slices = test.slices(scheme, settings.held_out)
    measured = ray.put(test)
    task = ray.remote(num_cpus=1)(measure_slice)
    pending = {
        task.remote(measured, *one, settings.seed, settings.resamples): place
        for place, one in enumerate(slices)
    }
    found: dict[int, Slice] = {}
    with Progress("evaluate", len(slices), unit="slices") as progress:
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            found[pending.pop(done)] = ray.get(done)
            progress.update()
    return Evaluation(
        test_set=settings.name,
        detector=absolute_uri(settings.detector),
        scores=absolute_uri(settings.scores),
        annotations=absolute_uri(settings.annotations),
        scheme=settings.scheme,
        held_out=settings.held_out,
        detector_hash=detector.hash(),
        calibration_hash=calibration.hash if calibration else None,
        threshold=test.threshold,
        band=calibration.band if calibration else None,
        resampled="images" if test.groups_N is None else "photographs",
        num_groups=test.num_groups,
        slices=[found[place] for place in sorted(found)],
    )


def _as_csv(evaluation: Evaluation) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    ends = [name for figure in FIGURES for name in (figure, f"{figure}_low", f"{figure}_high")]
    writer.writerow(["test_set", "column", "slice", "num_real", "num_synthetic", *ends])
    for part in evaluation.slices:
        figures = [part.figures[name] for name in FIGURES]
        values = [value for f in figures for value in (f.value, f.low, f.high)]
        texts = ["" if value is None else f"{value:.6f}" for value in values]
        counts = [part.num_real, part.num_synthetic]
        writer.writerow([evaluation.test_set, part.column, part.name, *counts, *texts])
    return sink.getvalue()
