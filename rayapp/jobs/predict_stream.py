"""Prediction of large sets: images read, scored and written by workers; here they are counted."""

import time
from typing import Any

import pyarrow as pa

from rayapp.cluster.map_rows import Resources
from rayapp.cluster.session import as_completed
from rayapp.dataset import members, scores
from rayapp.jobs.predict_subject import Subject, facts_of, told
from rayapp.predict.csv_sheet import CSV_FILE
from rayapp.predict.inputs import Inputs
from rayapp.predict.large_inputs import LARGE, LargeInputs
from rayapp.predict.part_summaries import Summary, part_schema, summary_of
from rayapp.predict.score_rows import PredictRows
from rayapp.predict.score_tables import Results
from rayapp.predict.settings import PredictSettings
from rayapp.run.dataset_folder import DatasetFolder
from rayapp.run.progress import Progress
from rayapp.run.record import Run

_BATCH_ROWS = 64  # read and decoded ahead of each other
_PARTS_A_TASK = 8


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
    from rayapp.cluster.stream import Stream  # brings Ray with it

    perturbation = run.fingerprint["inputs"].get("perturbation", "")
    shards = large.shards
    schema = part_schema(shards.scheme, shards.kept, shards.root.root, perturbation)
    folder = DatasetFolder(run.store, scores.SCORES_FOLDER)
    if run.state == "resumed":
        folder.settle()
    before = folder.done.count
    each = Resources(settings.threads, settings.gpus_per_worker, settings.num_workers)
    stream = Stream(
        "predict",
        shards,
        work,
        schema,
        folder,
        each.bundle,
        each.max_workers,
        _BATCH_ROWS,
        work.side_by_side,
    )
    began = time.monotonic()
    with run.claimed(), Progress("predict", shards.num_rows or 0) as progress:
        large.put_down(run.store)
        num_rows = stream.run(progress, settings.wait_s)
    elapsed_s = time.monotonic() - began
    results["scored_now"] = num_rows - before
    results["images_per_s"] = round((num_rows - before) / elapsed_s, 2)
    summary = _summary(folder, subject, settings.gallery, here=num_rows <= LARGE)
    finish = _one_table if num_rows <= LARGE else _folder_alone
    finish(settings, subject, run, large, folder, summary, results)


def _summary(folder: DatasetFolder, subject: Subject, most: int, here: bool) -> Summary:
    """What is told of all parts, gathered by workers; of few rows here, for they take to start."""
    import ray

    keys = [stat.key for stat in folder.parts()]
    groups = [keys[at : at + _PARTS_A_TASK] for at in range(0, len(keys), _PARTS_A_TASK)]
    task = ray.remote(num_cpus=1)(summary_of)
    same = (subject.judge, most, folder.store)
    whole = summary_of(*same, keys if here else [])
    if here:
        return whole
    for _, found in as_completed({task.remote(*same, few): few[0] for few in groups}):
        whole.merge(found)
    whole.parts.sort(key=lambda part: part.file)
    return whole


def _writer(
    settings: PredictSettings, subject: Subject, run: Run, inputs: Inputs, large: LargeInputs
) -> Results:
    perturbation = run.fingerprint["inputs"].get("perturbation", "")
    judge, view = subject.judge, subject.view
    kept = list(large.shards.kept)
    most, names = settings.gallery, subject.part_names
    return Results(run.store, inputs, judge, view, perturbation, most, kept, names)


def _folder_alone(
    settings: PredictSettings,
    subject: Subject,
    run: Run,
    large: LargeInputs,
    folder: DatasetFolder,
    summary: Summary,
    results: dict[str, Any],
) -> None:
    """The folder is the result; the gallery shows the images that tell most."""
    tally, selection = summary.tally, summary.selection
    tally.look_at_first = summary.look_at_first()
    selection.most = settings.gallery
    told(settings, subject, run, (tally, selection), large.shards.left_out, results)
    inputs = Inputs(large.shards.root, pa.table({}), large.shards.scheme)
    results["ms_per_image"] = round(tally.ms / tally.rows, 3)  # whichever run scored them
    places = summary.places()
    _writer(settings, subject, run, inputs, large).show_from(
        lambda path: members.read_image(large.shards.root, places[path]),
        tally,
        selection,
        facts_of(settings, subject, results),
    )
    folder.finish(summary.parts, {"job": run.job, "images": large.shards.root.root})
    run.finish(tally.counts, results, made=(folder.name,))


def _one_table(
    settings: PredictSettings,
    subject: Subject,
    run: Run,
    large: LargeInputs,
    folder: DatasetFolder,
    summary: Summary,
    results: dict[str, Any],
) -> None:
    """The folder, and the one table, lines for people and gallery that small sets have."""
    table = pa.concat_tables([folder.read(stat) for stat in folder.parts()]).sort_by("id")
    inputs = Inputs(large.shards.root, table, large.shards.scheme, large.shards.left_out)
    writer = _writer(settings, subject, run, inputs, large)
    tally, selection = writer.write([table])
    told(settings, subject, run, (tally, selection), inputs.left_out, results)
    results["ms_per_image"] = round(tally.ms / tally.rows, 3)
    writer.show(tally, selection, facts_of(settings, subject, results))
    folder.finish(summary.parts, {"job": run.job, "images": large.shards.root.root})
    made = (folder.name, scores.SCORES_FILE, CSV_FILE)
    run.finish(tally.counts, results, made=made)
