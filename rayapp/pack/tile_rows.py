"""The work on one shard: images decoded and written as lossless tiles."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2

from rayapp.dataset.images import pixels_of, sha256
from rayapp.dataset.members import read_image
from rayapp.dataset.tiles import INDEX_COLUMNS, Codec, shard_of, tiles_of
from rayapp.run import record, row_work
from rayapp.storage.store import Store


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

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """Where the tiles of each image lie; what could not be read has none."""
        tiles: dict[str, list[bytes]] = {}

        def one(row: row_work.Row) -> row_work.Row:
            data = read_image(self.root, row)
            pixels_HWC = pixels_of(data)
            tiles[_key(row)] = tiles_of(pixels_HWC, self.codec, self.tile_px)
            height, width = pixels_HWC.shape[:2]
            return {"sha256": sha256(data), "bytes": len(data), "height": height, "width": width}

        results = row_work.each(batch, one)
        shard, offsets = shard_of(list(tiles.values()))
        # Named by what is in it: written again after a kill, it is the same shard.
        name = f"shards/{record.digest(*(key.encode() for key in tiles))[:24]}.tiles"
        if tiles:
            self.output.put(name, shard)
        where = dict(zip(tiles, offsets, strict=True))
        for result in results:
            key = _key(result)
            # What the row brought under these names is of another file.
            result |= dict.fromkeys(INDEX_COLUMNS) | {"offset": where.get(key)}
            if key in where:
                result |= {
                    "shard": name,
                    "tile_px": self.tile_px,
                    "codec": self.codec,
                    "tile_bytes": list(map(len, tiles[key])),
                }
        return results


def _key(row: row_work.Row) -> str:
    """What a row is known by: an id of one's own may name several rows of a large set."""
    return f"{row['id']}#{row['row']}" if "row" in row else str(row["id"])
