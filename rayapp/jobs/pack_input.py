"""Packing of a set of any size: images read, tiled and accounted for by workers."""

import contextlib

from rayapp.cluster.session import on_demand
from rayapp.cluster.streamed import given_input, stream_rows
from rayapp.dataset import manifest
from rayapp.dataset.tiles import INDEX_COLUMNS, INDEX_FILE
from rayapp.pack.expected_sizes import SAMPLED, expected_bytes, print_sizes
from rayapp.pack.packed_parts import FOLDER, PackedParts
from rayapp.pack.settings import PackSettings
from rayapp.pack.tile_rows import PackRows
from rayapp.run import record
from rayapp.run.large_inputs import first_rows
from rayapp.run.resume import nothing_left

_BATCH = 32  # images of one shard of tiles


def pack_input(settings: PackSettings) -> record.Run:
    """Pack every image of a set, or go on with it; the index is a folder of parts.

    Raises:
        UserError: no such input, none of its first images can be read, or an output of another run.
        JobFailed: rows were lost.
    """
    with contextlib.ExitStack() as opened:
        large = given_input(settings, opened)
        shards = large.shards
        run = record.start(
            "pack",
            settings,
            {"input": large.digest},
            output=settings.output,
            overwrite=settings.overwrite,
        )
        if nothing_left(run):
            return run
        sizes = expected_bytes(shards.root, first_rows(shards, SAMPLED), settings.tile_px)
        if shards.num_rows is not None:
            print_sizes(sizes, shards.num_rows, settings.codec)
        opened.enter_context(on_demand(settings))
        work = PackRows(shards.root, run.store, settings.codec, settings.tile_px)
        facts = manifest.schema(shards.scheme, INDEX_COLUMNS)
        streamed = stream_rows(settings, run, large, work, facts, FOLDER, _BATCH)
        packed = streamed.gather(PackedParts())
        if streamed.is_small:
            manifest.write_table(run.store, INDEX_FILE, streamed.table())
        streamed.folder.finish(packed.parts, {"job": run.job})
        failed = sum(part.failed for part in packed.parts)
        counts = {"in": streamed.num_rows, "failed": failed, "packed": streamed.num_rows - failed}
        files = (INDEX_FILE,) if streamed.is_small else ()
        results = {"left_out": dict(shards.left_out.most_common())}
        run.finish({**counts, "bytes": packed.tile_bytes}, results, made=(FOLDER, *files))
    return run
