"""Prediction: few images in this process, many by workers, each with the detector loaded once."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rayapp.cluster.map_rows import SMALL, Resources, in_process, map_rows
from rayapp.cluster.session import meanwhile, on_demand, start
from rayapp.config.errors import UserError
from rayapp.dataset import manifest, scores
from rayapp.dataset.declared import TrustList, read_trust_list
from rayapp.dataset.inputs.listed_inputs import Inputs, with_repeats, with_variants, without_repeats
from rayapp.dataset.repeats import COLUMNS as REPEATS_OF
from rayapp.dataset.repeats import repeats_of
from rayapp.jobs.predict_subject import Subject, facts_of, subject_of, told
from rayapp.models.delivered import Deliveries
from rayapp.models.detector import Detector
from rayapp.models.folder import load_detector
from rayapp.models.inference.precision import has_fast_bf16
from rayapp.predict.bf16_check import NUM_IMAGES, Bf16Check, check_bf16, chosen
from rayapp.predict.csv_sheet import CSV_FILE
from rayapp.predict.day_counts import DayCounts, counted_until, now_after, stamped
from rayapp.predict.gallery import GALLERY_FILE
from rayapp.predict.score_maps import no_fused_map, says_patches
from rayapp.predict.score_rows import Disturbed, PredictRows, ScorerSpec, StreamedRows
from rayapp.predict.score_tables import Results, work_schema
from rayapp.predict.settings import PLACEMENT, PredictSettings
from rayapp.predict.sharing import ON_GPU, batch_rows, shared_out
from rayapp.run import record, row_work
from rayapp.run.large_inputs import LARGE, LargeInputs, find_inputs, first_rows
from rayapp.run.resume import unchanged
from rayapp.run.row_parts import Parts, drop_parts
from rayapp.storage.disk import scratch_folder
from rayapp.storage.parquet_files import open_parquet
from rayapp.storage.store import Store
from rayapp.storage.uris import read_uri
from rayapp.transforms.perturbations import load_perturbation

_MOST_BLOCK_ROWS, _MOST_BLOCKS = 256, 512  # of one task: shown and kept together


def predict(settings: PredictSettings, *, looks_again: bool = False) -> record.Run:
    """Score every input, or go on with it; scores.parquet, scores.csv, gallery.html.

    Args:
        settings: what is scored, by what.
        looks_again: a moment ago it looked: what is no image was none then, and is not tried again.

    Raises:
        UserError: no such detector, input or perturbation; a view that the calibration excludes.
        JobFailed: not one image could be read.
    """
    subject = subject_of(settings)
    with contextlib.ExitStack() as opened:
        trust = read_trust_list(settings.trust_list, read_uri)
        disturbed = None
        deliveries = _deliveries(settings, subject)
        _check_maps(settings, subject)
        if settings.perturbation:
            disturbed = Disturbed(load_perturbation(settings.perturbation), settings.seed)
        scratch = opened.enter_context(scratch_folder())
        inputs = meanwhile(settings, opened, lambda: _listed(settings, disturbed, scratch))
        if isinstance(inputs, LargeInputs):
            return _streamed(settings, subject, inputs, disturbed, trust, deliveries, opened)
        hashes = {"detector": subject.hash, "input": _listing_hash(inputs, settings.follow)}
        hashes |= _trusted(trust, deliveries)
        if disturbed:
            hashes["perturbation"] = disturbed.perturbation.hash
            inputs = with_variants(inputs, disturbed.perturbation.variant_names)
        asked, inputs = inputs.table, replace(inputs, table=without_repeats(inputs.table))
        run = _begun(settings, hashes)
        old = _scored_before(run, inputs) if settings.follow else None
        before = None if old is None else unchanged(old, inputs.table, with_unsound=looks_again)
        todo = inputs.table if before is None else _without(inputs.table, before)
        if run.state == "done" and (before is None or _nothing_new(run, todo, before)):
            if settings.gallery and not run.store.stat(GALLERY_FILE):  # not asked for before
                stored = [scores.read_scores(run.store)]
                _record(settings, subject, run, inputs, stored, dict(run.results))
            return run
        results: dict[str, Any] = {}
        opened.enter_context(on_demand(settings))
        images = lambda: chosen(todo)  # noqa: E731
        spec, results["precision"] = _spec(
            settings, subject, inputs.root, todo.num_rows, images, run
        )
        here = in_process(run, todo.num_rows, _resources(settings))
        threads, at_once = settings.threads, ON_GPU if settings.gpus_per_worker else 1
        if here:
            cores = settings.cpus or len(os.sched_getaffinity(0))
            threads, at_once = shared_out(cores, threads, todo.num_rows, alone=bool(subject.own))
        work = PredictRows(spec, inputs.root, threads, disturbed, trust, at_once, deliveries)
        began = time.monotonic()
        parts = _mapped(settings, run, inputs, todo, work)
        elapsed_s = time.monotonic() - began
    results["scored_now"] = todo.num_rows
    results["images_per_s"] = round(todo.num_rows / elapsed_s, 2)
    chunks: Iterable[pa.Table] = parts.chunks()
    if old is not None:
        chunks = stamped(chunks, now_after(counted_until(run.store)), old)
    scored = _merged(chunks, before, run.store)
    if asked.num_rows > inputs.table.num_rows:  # a list, which is in memory anyway
        scored = [with_repeats(pa.concat_tables(scored), asked)]
    _record(settings, subject, run, inputs, scored, results)
    return run


def _listed(
    settings: PredictSettings, disturbed: Disturbed | None, scratch: str
) -> Inputs | LargeInputs:
    variants = disturbed.perturbation.variant_names if disturbed else ()
    # A row an image and variant is made of a list, and a followed prefix is compared with one.
    streams = not settings.follow and len(variants) < 2
    return find_inputs(
        settings.input,
        root=settings.root,
        scheme=settings.scheme,
        column=settings.column,
        stream=settings.stream if streams else False,
        scratch=scratch,
        output=settings.output,
    )


def _streamed(
    settings: PredictSettings,
    subject: Subject,
    large: LargeInputs,
    disturbed: Disturbed | None,
    trust: TrustList,
    deliveries: Deliveries | None,
    opened: contextlib.ExitStack,
) -> record.Run:
    """Read, scored and written by workers."""
    from rayapp.jobs.predict_stream import stream_scores

    hashes = {"detector": subject.hash, "input": large.digest, **_trusted(trust, deliveries)}
    if disturbed:
        hashes["perturbation"] = disturbed.perturbation.hash
    run = _begun(settings, hashes)
    if run.state == "done":
        return run
    opened.enter_context(on_demand(settings))
    start()
    shards = large.shards
    count = LARGE if shards.num_rows is None else shards.num_rows
    results: dict[str, Any] = {}
    images = lambda: first_rows(large, NUM_IMAGES)  # noqa: E731
    spec, results["precision"] = _spec(settings, subject, shards.root, count, images, run)
    at_once = ON_GPU if settings.gpus_per_worker else 1
    work = StreamedRows(spec, shards.root, settings.threads, disturbed, trust, at_once, deliveries)
    stream_scores(settings, subject, run, large, work, results)
    return run


def _trusted(trust: TrustList, deliveries: Deliveries | None) -> dict[str, str]:
    hashes = {"trust_list": record.digest(trust.pem.encode())} if trust.pem else {}
    return hashes | ({"deliveries": deliveries.perturbation.hash} if deliveries else {})


def _deliveries(settings: PredictSettings, subject: Subject) -> Deliveries | None:
    if settings.stability == "none":
        return None
    if settings.perturbation:
        raise UserError("--stability: goes with images as they are; leave --perturbation out")
    if subject.judge.classes:
        raise UserError("--stability: a detector of classes has no verdict that flips")
    return Deliveries.load(settings.seed)


def _check_maps(settings: PredictSettings, subject: Subject) -> None:
    detector = subject.detector
    if detector and detector.spec.fusion and settings.maps:
        if why := no_fused_map(detector.parts, of_patches=True):
            raise UserError(f"--maps: {why}; `imaginet explain` maps one picture by any fusion")
        return
    if not settings.maps or (detector and detector.spec.preprocessing.sees_tiles):
        return
    if detector is None or not says_patches(detector) or subject.judge.classes:
        raise UserError(
            "--maps: of a detector whose head is on a ViT's patches (head.pool mean or attention); "
            "take --view tiles for another"
        )


def _begun(settings: PredictSettings, hashes: Mapping[str, str]) -> record.Run:
    return record.start(
        "predict",
        settings,
        hashes,
        output=settings.output,
        overwrite=settings.overwrite,
        placement=PLACEMENT,
    )


def _record(
    settings: PredictSettings,
    subject: Subject,
    run: record.Run,
    inputs: Inputs,
    scored: Iterable[pa.Table],
    results: dict[str, Any],
) -> None:
    """Scores, gallery, the detector as it saw, and what the run was."""
    perturbation = run.fingerprint["inputs"].get("perturbation", "")
    judge, view = subject.judge, subject.view
    counts = None if perturbation else DayCounts(judge, subject.hash)
    kept = []
    if counts and settings.follow:
        counts.until, kept = counted_until(run.store), [scores.SCORED_AT]
    most, names = settings.gallery, subject.part_names
    writer = Results(run.store, inputs, judge, view, perturbation, most, kept, counts, names)
    tally, selection = writer.write(scored)
    told(settings, subject, run, (tally, selection), inputs.left_out, results)
    if not perturbation and tally.rows <= LARGE:
        results["repeats"] = asdict(repeats_of([_hashes(run.store)]))
    writer.show(tally, selection, facts_of(settings, subject, results))
    run.finish(tally.counts, results, made=(scores.SCORES_FILE, CSV_FILE))
    drop_parts(run.store)


def _hashes(store: Store) -> pa.Table:
    stat = store.stat(scores.SCORES_FILE)
    assert stat is not None
    with open_parquet(store, stat) as file:
        return file.read([name for name in REPEATS_OF if name in file.schema_arrow.names])


def _listing_hash(inputs: Inputs, follow: bool) -> str:
    if follow:
        if "etag" not in inputs.table.column_names:
            raise UserError("--follow: takes a folder, prefix or pattern, no list or manifest")
        return record.digest(inputs.root.root.encode())
    names = [name for name in ("id", "etag") if name in inputs.table.column_names]
    entries = [(one or "").encode() for name in names for one in inputs.table[name].to_pylist()]
    return record.digest(inputs.root.root.encode(), *entries)


def _scored_before(run: record.Run, inputs: Inputs) -> pa.Table:
    """Rows of the last run, whether or not it came to its end."""
    if run.state == "new" or run.store.stat(scores.SCORES_FILE) is None:
        return scores.schema(inputs.scheme).empty_table()
    return scores.read_scores(run.store)


def _without(listed: pa.Table, before: pa.Table) -> pa.Table:
    return listed.filter(pc.invert(pc.is_in(listed["id"], value_set=before["id"].combine_chunks())))


def _nothing_new(run: record.Run, todo: pa.Table, before: pa.Table) -> bool:
    """Whether a prefix is as the last run left it: no new image, none gone."""
    return todo.num_rows == 0 and bool(before.num_rows == run.counts.get("in"))


def _spec(
    settings: PredictSettings,
    subject: Subject,
    root: Store,
    num_rows: int,
    images: Callable[[], list[row_work.Row]],
    run: record.Run,
) -> tuple[ScorerSpec, dict[str, Any]]:
    """How workers score, with the precision settled; and what is to be recorded of that."""
    spec = ScorerSpec(
        subject.own or settings.detector,
        settings.view,
        settings.view_size,
        at_once=settings.batch_size,
        compiled=settings.compile,
        gpus=settings.gpus_per_worker,
        maps=settings.maps,
    )
    if subject.detector is None:
        return spec, {"used": "own"}
    adopted = subject.detector.spec.adopted
    if adopted and adopted.kind == "onnx":
        if settings.precision == "bf16":
            raise UserError("--precision bf16: an ONNX file computes as it was exported")
        return spec, {"used": "as exported"}
    if settings.precision != "auto":
        return replace(spec, bf16=settings.precision == "bf16"), {"used": settings.precision}
    if (known := run.found.get("results", {}).get("precision")) is not None:
        return replace(spec, bf16=known["used"] == "bf16"), known
    least = NUM_IMAGES if settings.gpus_per_worker else SMALL
    if num_rows <= least or not (settings.gpus_per_worker or has_fast_bf16("cpu")):
        return spec, {"used": "exact"}
    harm = _bf16_check(settings, spec, subject.detector, root, images())
    described = {
        "used": "bf16" if harm.harmless else "exact",
        "largest_change": harm.largest,
        "images_checked": harm.num_images,
    }
    return replace(spec, bf16=harm.harmless), described


def _bf16_check(
    settings: PredictSettings,
    spec: ScorerSpec,
    detector: Detector,
    root: Store,
    images: list[row_work.Row],
) -> Bf16Check:
    if not settings.gpus_per_worker:
        return check_bf16(detector, root, images)

    def on_gpu() -> Bf16Check:
        if not has_fast_bf16(spec.device):
            return Bf16Check(0.0, 0)
        loaded = load_detector(str(spec.detector)).seen_as(spec.view, spec.view_size)
        return check_bf16(loaded.to(spec.device), root, images)

    start()
    from rayapp.cluster.capacity import on_worker

    return on_worker(on_gpu, _resources(settings).bundle, "predict", settings.wait_s)


def _resources(settings: PredictSettings, side_by_side: int = 1) -> Resources:
    gpus = settings.gpus_per_worker
    return Resources(settings.threads, gpus, settings.num_workers, side_by_side)


def _mapped(
    settings: PredictSettings, run: record.Run, inputs: Inputs, todo: pa.Table, work: PredictRows
) -> Parts:
    block = batch_rows(todo.num_rows, work.side_by_side)
    return map_rows(
        todo,
        work,
        work_schema(inputs.scheme),
        run=run,
        batch_size=block,
        resources=_resources(settings, work.side_by_side),
        wait_s=settings.wait_s,
        # Ray takes a millisecond to keep a block: of many rows, each task does a 512th at most.
        max_block_rows=max(block, min(_MOST_BLOCK_ROWS, todo.num_rows // _MOST_BLOCKS)),
        verify=(lambda table: unchanged(table, todo)) if settings.follow else None,
    )


def _merged(
    chunks: Iterable[pa.Table], before: pa.Table | None, store: Store
) -> Iterable[pa.Table]:
    """The new rows and, of a followed prefix, those that stand, in id order."""
    if before is None or before.num_rows == 0:
        return chunks
    both = manifest.together([before, *chunks], store.uri(scores.SCORES_FILE))
    return [both.sort_by("id")]
