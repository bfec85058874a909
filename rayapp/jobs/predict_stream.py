"""Prediction of large sets: images read, scored and written by workers; here they are counted."""

from dataclasses import asdict
from typing import Any

import pyarrow as pa

from rayapp.cluster.map_rows import Resources
from rayapp.cluster.streamed import Streamed, stream_rows
from rayapp.dataset import members, scores
from rayapp.dataset.inputs.listed_inputs import Inputs
from rayapp.jobs.predict_subject import Subject, facts_of, told
from rayapp.predict.csv_sheet import CSV_FILE
from rayapp.predict.day_counts import DayCounts
from rayapp.predict.part_summaries import Summary, facts_of_parts
from rayapp.predict.score_rows import PredictRows
from rayapp.predict.score_tables import Results
from rayapp.predict.settings import PredictSettings
from rayapp.run.large_inputs import LargeInputs
from rayapp.run.record import Run

_BATCH_ROWS = 64  # read and decoded ahead of each other


def stream_scores(
    settings: PredictSettings,
    subject: Subject,
    run: Run,
    large: LargeInputs,
    work: PredictRows,
    results: dict[str, Any],
) -> None:
    """Score a set into a folder of tables; up to `LARGE` rows also into one table, as small sets.

    Raises:
        UserError: the work can't start.
        JobFailed: rows were lost, or not one image could be scored.
    """
    perturbation = run.fingerprint["inputs"].get("perturbation", "")
    shards = large.shards
    facts = facts_of_parts(shards.scheme, shards.root.root, perturbation)
    each = Resources(
        settings.threads, settings.gpus_per_worker, settings.num_workers, work.side_by_side
    )
    name = scores.SCORES_FOLDER
    streamed = stream_rows(settings, run, large, work, facts, name, _BATCH_ROWS, each)
    results["scored_now"] = streamed.fresh
    results["images_per_s"] = round(streamed.fresh / streamed.elapsed_s, 2)
    summary = streamed.gather(Summary.of(subject.judge, settings.gallery))
    if not perturbation:
        results["repeats"] = asdict(streamed.repeats())
    finish = _one_table if streamed.is_small else _folder_alone
    finish(settings, subject, run, large, streamed, summary, results)


def _writer(
    settings: PredictSettings, subject: Subject, run: Run, inputs: Inputs, large: LargeInputs
) -> Results:
    perturbation = run.fingerprint["inputs"].get("perturbation", "")
    judge, view = subject.judge, subject.view
    kept = list(large.shards.kept)
    counts = None if perturbation else DayCounts(judge, subject.hash)
    most, names = settings.gallery, subject.part_names
    return Results(run.store, inputs, judge, view, perturbation, most, kept, counts, names)


def _folder_alone(
    settings: PredictSettings,
    subject: Subject,
    run: Run,
    large: LargeInputs,
    streamed: Streamed,
    summary: Summary,
    results: dict[str, Any],
) -> None:
    """The folder is the result; the gallery shows the images that tell most."""
    tally, selection = summary.tally, summary.selection
    tally.look_at_first = summary.look_at_first()
    selection.most = settings.gallery
    told(settings, subject, run, (tally, selection), large.shards.left_out, results)
    inputs = Inputs(large.shards.root, pa.table({}), large.shards.scheme)
    writer = _writer(settings, subject, run, inputs, large)
    if writer.counts:
        writer.counts.traffic.days = summary.traffic.days
        writer.counts.write(run.store)
    results["ms_per_image"] = round(tally.ms / tally.rows, 3)  # whichever run scored them
    places = summary.places()
    writer.show_from(
        lambda path: members.read_image(large.shards.root, places[path]),
        tally,
        selection,
        facts_of(settings, subject, results),
    )
    streamed.folder.finish(summary.parts, {"job": run.job, "images": large.shards.root.root})
    run.finish(tally.counts, results, made=(streamed.folder.name,))


def _one_table(
    settings: PredictSettings,
    subject: Subject,
    run: Run,
    large: LargeInputs,
    streamed: Streamed,
    summary: Summary,
    results: dict[str, Any],
) -> None:
    """The folder, and the one table, lines for people and gallery that small sets have."""
    table = streamed.table()
    inputs = Inputs(large.shards.root, table, large.shards.scheme, large.shards.left_out)
    writer = _writer(settings, subject, run, inputs, large)
    tally, selection = writer.write([table])
    told(settings, subject, run, (tally, selection), inputs.left_out, results)
    results["ms_per_image"] = round(tally.ms / tally.rows, 3)
    writer.show(tally, selection, facts_of(settings, subject, results))
    streamed.folder.finish(summary.parts, {"job": run.job, "images": large.shards.root.root})
    made = (streamed.folder.name, scores.SCORES_FILE, CSV_FILE)
    run.finish(tally.counts, results, made=made)
