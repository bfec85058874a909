"""Perturbation on Ray Data: each image decoded once, all its variants written, nothing redrawn."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rayapp.cluster.map_rows import map_rows
from rayapp.cluster.session import on_demand
from rayapp.cluster.streamed import Streamed, given_input, stream_rows
from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import AnnotationList, Item, LabelScheme, load_scheme, read_lists
from rayapp.dataset.shard_rows import apart_from
from rayapp.perturb.file_names import Target, targets
from rayapp.perturb.made_parts import FOLDER, ROWS_FOLDER, MadeParts
from rayapp.perturb.manifest_rows import (
    MANIFEST,
    Tally,
    expand,
    manifest_schema,
    row_schema,
    write_lists,
)
from rayapp.perturb.preview import write_preview
from rayapp.perturb.replay import check_published, replay
from rayapp.perturb.settings import PerturbSettings
from rayapp.perturb.variants import PerturbRows, SizeRows, StreamedVariants
from rayapp.run import record
from rayapp.run.dataset_folder import DatasetFolder
from rayapp.run.resume import check_still_there, is_there, nothing_left, outputs_there
from rayapp.run.row_parts import Parts, drop_parts
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store, read_uri, split_uri
from rayapp.transforms.perturbations import Perturbation, load_perturbation

_BATCH = 16
_SMALL = 32  # images that are perturbed without Ray: each takes as long as many that are scored
_CARRIED = ("source", "licence", "group")


def perturb(settings: PerturbSettings) -> record.Run:
    """Perturb every annotated image, or go on with it; images that failed are tried again.

    Raises:
        UserError: a wrong list or perturbation, or an output that belongs to another run.
        JobFailed: images of a finished run are gone.
    """
    if settings.input:
        return _of_input(settings)
    assert settings.root is not None
    scheme = load_scheme(settings.scheme)
    perturbation = load_perturbation(settings.perturbation)
    lists = read_lists(settings.annotations, scheme)
    planned = targets(lists, settings.draws)
    if settings.draws == "published":
        check_published(lists)
    root = open_store(settings.root)
    run = _start(settings, perturbation)
    if nothing_left(run, retry_failed=True):
        check_still_there(run, MANIFEST)
    else:
        if next(iter(root.list()), None) is None:
            raise UserError(f"{root.root}: --root holds no file")
        work = PerturbRows(
            root, run.store, perturbation, settings.seed, published=settings.draws != "clean"
        )
        with on_demand(settings):
            made = _on_ray(_work_list(planned, scheme, settings), planned, work, run, settings)
        _finish(run, made, lists, planned, perturbation, scheme)
    if settings.preview:
        whole = manifest.read_table(run.store, MANIFEST)
        write_preview(root, run.store, whole, settings.preview)
    return run


def _finish(
    run: record.Run,
    made: Parts,
    lists: Sequence[AnnotationList],
    planned: Sequence[Sequence[Target]],
    perturbation: Perturbation,
    scheme: LabelScheme,
) -> None:
    """Write the manifest, the lists and run.json, in this order, some thousand rows at a time."""
    tally, wanted = Tally(perturbation.variant_names), manifest_schema(scheme)

    def chunks() -> Iterator[pa.Table]:
        for rows_made in made.chunks():
            whole = expand(rows_made, wanted, perturbation.variant_names)
            tally.add(whole)
            yield whole

    manifest.write_chunks(run.store, MANIFEST, chunks(), wanted)
    keys = write_lists(run.store, tally.not_made, lists, planned, perturbation.variant_names)
    results = {
        "lists": keys,
        "variants": tally.by_variant,
        "misses": tally.misses,
        "pixels_sha256": tally.pixels_sha256,
    }
    run.finish(tally.run_counts(made.num_rows), results, made=(MANIFEST, *keys))
    if not made.num_failed:
        drop_parts(run.store)


def _start(settings: PerturbSettings, perturbation: Perturbation) -> record.Run:
    inputs = {uri: sha256(read_uri(uri)) for uri in settings.annotations}
    inputs |= {"perturbation": perturbation.hash, "root": str(settings.root)}
    if settings.manifest:
        inputs[settings.manifest] = sha256(read_uri(settings.manifest))
    done = settings.model_copy(update={"preview": 0})  # a sheet changes nothing in the set
    return record.start(
        "perturb", done, inputs, output=settings.output, overwrite=settings.overwrite
    )


def _work_list(
    planned: Sequence[Sequence[Target]], scheme: LabelScheme, settings: PerturbSettings
) -> pa.Table:
    """One row an image: id, path of the file it is made from, labels, target name."""
    flat = [target for named in planned for target in named]
    items = [Item(t.item.id, t.source_path, t.item.labels) for t in flat]
    table = manifest.item_rows(items, scheme)
    table = table.append_column("name", pa.array([t.name for t in flat], pa.string()))
    if settings.manifest is None:
        return table
    known = manifest.read_table(*split_uri(settings.manifest))
    at = {path: index for index, path in enumerate(known["path"].to_pylist())}
    for column in _CARRIED:
        if column in known.column_names:
            values = known[column].to_pylist()
            carried = [values[at[t.source_path]] if t.source_path in at else None for t in flat]
            table = table.append_column(column, pa.array(carried, pa.string()))
    return table


def _on_ray(
    table: pa.Table,
    planned: Sequence[Sequence[Target]],
    work: PerturbRows,
    run: record.Run,
    settings: PerturbSettings,
) -> Parts:
    """The work list through Ray: one row an image with what was made of it."""
    if settings.draws == "published":
        table = _with_published_plans(table, planned, work.root, run, settings)
    return map_rows(
        table.sort_by("id"),
        work,
        row_schema(load_scheme(settings.scheme)),
        run=run,
        batch_size=_BATCH,
        wait_s=settings.wait_s,
        verify=outputs_there(run.store),
        small=_SMALL,
    )


def _with_published_plans(
    table: pa.Table,
    planned: Sequence[Sequence[Target]],
    root: Store,
    run: record.Run,
    settings: PerturbSettings,
) -> pa.Table:
    """A first pass for the sizes, then two columns more: the plan, or why there is none."""
    paths = pc.unique(table["path"])
    sized = map_rows(
        pa.table({"id": paths, "path": paths}),
        SizeRows(root),
        manifest.schema(),
        run=run,
        batch_size=_BATCH,
        wait_s=settings.wait_s,
        name="image sizes",
    ).table()
    columns = (sized[name].to_pylist() for name in ("path", "height", "width", "status"))
    sizes = {
        path: (height, width) if status == manifest.STATUS_OK else None
        for path, height, width, status in zip(*columns, strict=True)
    }
    replayed = replay(planned, sizes)
    found = [replayed[identity] for identity in table["id"].to_pylist()]
    table = table.append_column("plan", pa.array([one.plan for one in found], pa.string()))
    return table.append_column("fault", pa.array([one.fault for one in found], pa.string()))


def _of_input(settings: PerturbSettings) -> record.Run:
    """Perturb every image of a set, or go on with it; images that failed are tried again.

    The manifest is a folder of parts.

    Raises:
        UserError: no such input or perturbation, or an output that belongs to another run.
        JobFailed: rows were lost.
    """
    perturbation = load_perturbation(settings.perturbation)
    with contextlib.ExitStack() as opened:
        large = given_input(settings, opened)
        run = record.start(
            "perturb",
            settings,
            {"perturbation": perturbation.hash, "input": large.digest},
            output=settings.output,
            overwrite=settings.overwrite,
        )
        # Where no row failed, none is kept.
        if nothing_left(run, retry_failed=is_there(run.store, ROWS_FOLDER)):
            return run
        opened.enter_context(on_demand(settings))
        shards = large.shards
        work = StreamedVariants(shards.root, run.store, perturbation, settings.seed)
        facts = row_schema(shards.scheme)
        streamed = stream_rows(settings, run, large, work, facts, ROWS_FOLDER, _BATCH)
        names = perturbation.variant_names
        DatasetFolder(run.store, FOLDER).begin_anew()
        made = streamed.gather(MadeParts(shards.scheme, apart_from(facts, shards.kept), names))
        _finish_parts(run, streamed, made, dict(shards.left_out.most_common()))
    return run


def _finish_parts(
    run: record.Run, streamed: Streamed, made: MadeParts, left_out: dict[str, int]
) -> None:
    """Write the manifest's description, of few rows one table too, and run.json."""
    counts = made.counts
    results: dict[str, Any] = {
        "variants": counts.by_variant,
        "misses": counts.misses,
        "left_out": left_out,
    }
    folder = DatasetFolder(run.store, FOLDER)
    if streamed.is_small:
        whole, tally = made.rows_of(streamed.table()), Tally(made.variants)
        tally.add(whole)
        results["pixels_sha256"] = tally.pixels_sha256
        manifest.write_table(run.store, MANIFEST, whole)
    folder.finish(made.parts, {"job": run.job})
    files = (MANIFEST,) if streamed.is_small else ()
    run.finish(counts.run_counts(streamed.num_rows), results, made=(FOLDER, *files))
    if run.counts["failed"]:  # which the same command tries again
        streamed.folder.drop_checkpoints()
    else:
        streamed.folder.drop()
