"""Packing on Ray: training then decodes only the tiles that it looks at."""

from collections.abc import Sequence

import numpy as np

from rayapp.cluster.map_rows import map_rows
from rayapp.cluster.session import on_demand
from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.images import ImageError, pixels_of, sha256
from rayapp.dataset.labels import AnnotationList, Item, item_id, load_scheme, read_lists
from rayapp.dataset.tiles import INDEX_COLUMNS, INDEX_FILE, Codec, tiles_of
from rayapp.pack.settings import PackSettings
from rayapp.pack.tile_rows import PackRows
from rayapp.run import record, row_work
from rayapp.run.resume import nothing_left
from rayapp.run.row_parts import drop_parts
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store, read_uri

_BATCH = 32  # images of one shard
_SAMPLED = 16
_CODECS: tuple[Codec, ...] = ("webp", "zstd")


def pack(settings: PackSettings) -> record.Run:
    """Pack every annotated image once, or go on with it.

    Raises:
        UserError: a wrong list, no image that can be read, or an output of another run.
    """
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
    _say_sizes(expected_bytes(root, items, settings.tile_px), len(items), settings.codec)
    with on_demand(settings):
        table = map_rows(
            manifest.item_rows(items, scheme),
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


def expected_bytes(root: Store, items: Sequence[Item], tile_px: int) -> dict[str, float]:
    """Bytes an image of the originals and of either codec, from a sample spread over the list.

    Raises:
        UserError: no image of the sample can be read.
    """
    chosen = np.linspace(0, len(items) - 1, min(_SAMPLED, len(items))).astype(int)
    sizes: dict[str, list[int]] = {name: [] for name in ("originals", *_CODECS)}
    reason = ""
    for index in chosen:
        try:
            data = root.get(items[index].path)
            pixels_HWC = pixels_of(data)
        except (OSError, ImageError) as error:
            reason = f"{items[index].path}: {row_work.format_error(error)}"
            continue
        sizes["originals"].append(len(data))
        for codec in _CODECS:
            sizes[codec].append(sum(map(len, tiles_of(pixels_HWC, codec, tile_px))))
    if not sizes["originals"]:
        raise UserError(f"none of {len(chosen)} images tried can be read; last {reason}")
    return {name: float(np.mean(values)) for name, values in sizes.items()}


def _say_sizes(expected: dict[str, float], num_images: int, codec: Codec) -> None:
    sizes = {name: f"{size * num_images / 1e9:,.2f} GB" for name, size in expected.items()}
    other = next(name for name in _CODECS if name != codec)
    print(
        f"pack: {num_images:,} images, {sizes['originals']} as they are; expected {sizes[codec]} "
        f"as {codec} tiles (--codec {other}: {sizes[other]}"
        f"{', written and read faster' if other == 'zstd' else ''})",
        flush=True,
    )
