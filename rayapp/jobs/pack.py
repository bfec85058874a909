"""Packing on Ray: training then decodes only the tiles that it looks at."""

import contextlib
from collections.abc import Sequence

import numpy as np

from rayapp.cluster.map_rows import map_rows
from rayapp.cluster.session import on_demand
from rayapp.cluster.streamed import given_input, stream_rows
from rayapp.dataset import manifest
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import AnnotationList, Item, item_id, load_scheme, read_lists
from rayapp.dataset.tiles import INDEX_COLUMNS, INDEX_FILE
from rayapp.pack.expected_sizes import SAMPLED, expected_bytes, print_sizes
from rayapp.pack.packed_parts import FOLDER, PackedParts
from rayapp.pack.settings import PackSettings
from rayapp.pack.tile_rows import PackRows
from rayapp.run import record
from rayapp.run.large_inputs import first_rows
from rayapp.run.resume import nothing_left
from rayapp.run.row_parts import drop_parts
from rayapp.storage.uris import open_store, read_uri

_BATCH = 32  # images of one shard


def pack(settings: PackSettings) -> record.Run:
    """Pack every annotated image once, or go on with it.

    Raises:
        UserError: a wrong list, no image that can be read, or an output of another run.
    """
    if settings.input:
        return _of_input(settings)
    assert settings.root is not None
    scheme = load_scheme(settings.scheme)
    items = _items(read_lists(settings.annotations, scheme))
    inputs = {uri: sha256(read_uri(uri)) for uri in settings.annotations}
    inputs["root"] = settings.root
    run = record.start(
        "pack", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if nothing_left(run):
        return run
    root = open_store(settings.root)
    listed = manifest.item_rows(items, scheme)
    sampled = np.linspace(0, len(items) - 1, min(SAMPLED, len(items))).astype(int)
    sizes = expected_bytes(root, listed.take(sampled).to_pylist(), settings.tile_px)
    print_sizes(sizes, len(items), settings.codec)
    with on_demand(settings):
        table = map_rows(
            listed,
            PackRows(root, run.store, settings.codec, settings.tile_px),
            manifest.schema(scheme, INDEX_COLUMNS),
            run=run,
            batch_size=_BATCH,
            wait_s=settings.wait_s,
        ).table()
    manifest.write_table(run.store, INDEX_FILE, table)
    failed = manifest.count_failed(table)
    packed = sum(sum(sizes or ()) for sizes in table["tile_bytes"].to_pylist())
    counts = {"in": table.num_rows, "failed": failed, "packed": table.num_rows - failed}
    run.finish({**counts, "bytes": packed}, made=(INDEX_FILE,))
    drop_parts(run.store)
    return run


def _items(lists: Sequence[AnnotationList]) -> list[Item]:
    """Every image once, whatever the lists repeat."""
    found: dict[str, Item] = {}
    for one in lists:
        for item in one.items:
            identity = item_id(item.path)
            found.setdefault(identity, Item(identity, identity, item.labels))
    return list(found.values())


def _of_input(settings: PackSettings) -> record.Run:
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
        sizes = expected_bytes(shards.root, first_rows(large, SAMPLED), settings.tile_px)
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
