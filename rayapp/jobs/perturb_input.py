"""Perturbation of a set of any size: images read, made and accounted for by workers."""

import contextlib
from typing import Any

from rayapp.cluster.session import on_demand
from rayapp.cluster.streamed import Streamed, given_input, stream_rows
from rayapp.dataset import manifest
from rayapp.dataset.shard_rows import apart_from
from rayapp.perturb.made_parts import FOLDER, ROWS_FOLDER, MadeParts
from rayapp.perturb.manifest_rows import MANIFEST, Tally, row_schema
from rayapp.perturb.settings import PerturbSettings
from rayapp.perturb.variants import StreamedVariants
from rayapp.run import record
from rayapp.run.dataset_folder import DatasetFolder
from rayapp.run.resume import nothing_left
from rayapp.transforms.perturbations import load_perturbation

_BATCH = 16


def perturb_input(settings: PerturbSettings) -> record.Run:
    """Perturb every image of a set, or go on with it; the manifest is a folder of parts.

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
        if nothing_left(run):
            return run
        opened.enter_context(on_demand(settings))
        shards = large.shards
        work = StreamedVariants(shards.root, run.store, perturbation, settings.seed)
        facts = row_schema(shards.scheme)
        streamed = stream_rows(settings, run, large, work, facts, ROWS_FOLDER, _BATCH)
        names = perturbation.variant_names
        made = streamed.gather(MadeParts(shards.scheme, apart_from(facts, shards.kept), names))
        _finish(run, streamed, made, dict(shards.left_out.most_common()))
    return run


def _finish(run: record.Run, streamed: Streamed, made: MadeParts, left_out: dict[str, int]) -> None:
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
    streamed.folder.drop()
