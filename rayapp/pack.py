"""Packing images into a tile store on Ray: training then decodes the tiles that it looks at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from rayapp import cluster, manifest, rows, runs
from rayapp.errors import UserError
from rayapp.images import ImageError, decode, sha256
from rayapp.labels import AnnotationList, Item, item_id, load_scheme, read_lists
from rayapp.parts import drop_parts
from rayapp.settings import JobSettings
from rayapp.storage import Store, open_store, read_uri
from rayapp.tiles import INDEX_COLUMNS, INDEX_FILE, Codec, shard_of, tiles_of
from rayapp.transforms import ImageHWC, decode_fast
from rayapp.uris import Packaged, Uri

_BATCH = 32  # images of one shard
_SAMPLED = 16
_CODECS: tuple[Codec, ...] = ("webp", "zstd")


class PackSettings(JobSettings):
    """Pack annotated images into lossless tiles, from which crops are read fast."""

    annotations: tuple[Uri, ...] = Field(min_length=1, description="annotation lists")
    root: Uri = Field(description="folder or s3:// prefix under which the annotated images lie")
    scheme: Packaged = Field("imaginet", description="label scheme of the lists")
    codec: Literal["webp", "zstd"] = Field(
        "webp", description="of the tiles: webp is small, zstd larger and faster to read"
    )
    tile_px: int = Field(128, ge=16, le=1024, description="side of a tile in px")


def pack(settings: PackSettings) -> runs.Run:
    """Pack every annotated image once, or go on with it.

    Raises:
        UserError: a wrong list, no image that can be read, or an output of another run.
    """
    scheme = load_scheme(settings.scheme)
    items = _items(read_lists(settings.annotations, scheme))
    inputs = {uri: sha256(read_uri(uri)) for uri in settings.annotations}
    inputs["root"] = settings.root
    run = runs.start("pack", settings, inputs, output=settings.output, overwrite=settings.overwrite)
    if run.state == "done":
        return run
    root = open_store(settings.root)
    _say_sizes(expected_bytes(root, items, settings.tile_px), len(items), settings.codec)
    with cluster.session(settings):
        table = rows.map_rows(
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
            pixels_HWC = _decoded(data)
        except (OSError, ImageError) as error:
            reason = f"{items[index].path}: {rows.said(error)}"
            continue
        sizes["originals"].append(len(data))
        for codec in _CODECS:
            sizes[codec].append(sum(map(len, tiles_of(pixels_HWC, codec, tile_px))))
    if not sizes["originals"]:
        raise UserError(f"none of {len(chosen)} images tried can be read; last {reason}")
    return {name: float(np.mean(values)) for name, values in sizes.items()}


def _say_sizes(expected: dict[str, float], num_images: int, codec: Codec) -> None:
    told = {name: f"{size * num_images / 1e9:,.2f} GB" for name, size in expected.items()}
    other = next(name for name in _CODECS if name != codec)
    print(
        f"pack: {num_images:,} images, {told['originals']} as they are; expected {told[codec]} as "
        f"{codec} tiles (--codec {other}: {told[other]}"
        f"{', written and read faster' if other == 'zstd' else ''})",
        flush=True,
    )


@dataclass
class PackRows:
    """Row work: a batch of images in, one shard with their tiles written."""

    root: Store
    output: Store
    codec: Codec
    tile_px: int

    def setup(self) -> None:
        """OpenCV's own threads would fight over the CPUs that Ray has dealt out."""
        cv2.setNumThreads(1)

    def batch(self, batch: Sequence[rows.Row]) -> list[rows.Row]:
        """Where the tiles of each image lie; what could not be read has none."""
        tiles: dict[str, list[bytes]] = {}

        def one(row: rows.Row) -> rows.Row:
            data = self.root.get(row["path"])
            pixels_HWC = _decoded(data)
            tiles[row["id"]] = tiles_of(pixels_HWC, self.codec, self.tile_px)
            height, width = pixels_HWC.shape[:2]
            return {"sha256": sha256(data), "bytes": len(data), "height": height, "width": width}

        results = rows.each(batch, one)
        shard, offsets = shard_of(list(tiles.values()))
        # Named by what is in it: written again after a kill, it is the same shard.
        name = f"shards/{runs.digest(*(identity.encode() for identity in tiles))[:24]}.tiles"
        if tiles:
            self.output.put(name, shard)
        where = dict(zip(tiles, offsets, strict=True))
        for result in results:
            if result["id"] in where:
                result |= {
                    "shard": name,
                    "offset": where[result["id"]],
                    "tile_px": self.tile_px,
                    "codec": self.codec,
                    "tile_bytes": list(map(len, tiles[result["id"]])),
                }
        return results


def _decoded(data: bytes) -> ImageHWC:
    pixels_HWC = decode_fast(data)
    return decode(data).pixels_HWC if pixels_HWC is None else pixels_HWC
