"""Tile store: images as lossless tiles, so that a small crop reads only the tiles it touches.

Layout under a root: `shards/NAME.tiles`, the tiles of some images one after the other, row by row;
and `tiles.parquet`, one row an image: id, path, labels, status, shard, offset, height, width,
tile_px, codec and the bytes of each tile. Tiles are WebP (lossless) files, or raw RGB samples under
Zstandard: larger, and faster to read. An image's last tiles are as narrow as what is left of it.

Shapes: H W C of an image · T tiles of an image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rayapp.config.errors import UserError
from rayapp.dataset.images import ImageError
from rayapp.dataset.manifest import STATUS_OK, read_table
from rayapp.storage.store import Store
from rayapp.transforms.codecs import decode_fast, encode_lossless
from rayapp.transforms.operations import ImageHWC, SizeHW, Window

INDEX_FILE = "tiles.parquet"
TILE_PX = 128
Codec = Literal["webp", "zstd"]

INDEX_COLUMNS: dict[str, pa.DataType] = {
    "shard": pa.string(),
    "offset": pa.int64(),
    "tile_px": pa.int32(),
    "codec": pa.string(),
    "tile_bytes": pa.list_(pa.int32()),
}
# libwebp's fast end: 4 % smaller takes 4 times as long to write, and as long to read.
_WEBP_EFFORT = 0
_ZSTD_LEVEL = 3


def tiles_of(pixels_HWC: ImageHWC, codec: Codec, tile_px: int = TILE_PX) -> list[bytes]:
    """The tiles of an image, row by row, each encoded without loss."""
    return [
        _encode(pixels_HWC[window.top :, window.left :][: window.height, : window.width], codec)
        for window in _grid((pixels_HWC.shape[0], pixels_HWC.shape[1]), tile_px)
    ]


class Placed(NamedTuple):
    """Where an image's tiles lie."""

    shard: str
    offset: int
    size_HW: SizeHW
    tile_px: int
    codec: Codec
    starts: NDArray[np.int64]  # T + 1 offsets from the first tile's


@dataclass(frozen=True)
class TiledPicture:
    """An image in a tile store, read by windows."""

    store: Store
    placed: Placed

    @property
    def size_HW(self) -> SizeHW:
        """Height and width of the whole image."""
        return self.placed.size_HW

    def read(self, window: Window) -> ImageHWC:
        """The window's pixels RGB uint8 [H, W, 3], equal to those of the original.

        Raises:
            ImageError: the store's bytes are damaged.
        """
        side, top, left = self.placed.tile_px, window.top, window.left
        rows = range(top // side, -(-(top + window.height) // side))
        columns = range(left // side, -(-(left + window.width) // side))
        across = -(-self.size_HW[1] // side)
        wanted = [row * across + column for row in rows for column in columns]
        # One request from the first to the last tile: on S3 a request costs more than the tiles
        # of a row that lie between.
        first, end = int(self.placed.starts[wanted[0]]), int(self.placed.starts[wanted[-1] + 1])
        data = self.store.get_range(self.placed.shard, self.placed.offset + first, end - first)
        pixels_HWC = np.empty((window.height, window.width, 3), np.uint8)
        for number in wanted:
            start, stop = (int(at) - first for at in self.placed.starts[number : number + 2])
            self._paste(pixels_HWC, window, divmod(number, across), data[start:stop])
        return pixels_HWC

    def _paste(
        self, pixels_HWC: ImageHWC, window: Window, at: tuple[int, int], data: bytes
    ) -> None:
        side, (height, width) = self.placed.tile_px, self.size_HW
        top, left = at[0] * side, at[1] * side
        tile_HWC = _decode(
            data, self.placed.codec, (min(side, height - top), min(side, width - left))
        )
        y, x = max(top, window.top), max(left, window.left)
        part = tile_HWC[y - top :, x - left :]
        to = pixels_HWC[y - window.top :, x - window.left :]
        rows, columns = min(len(part), len(to)), min(part.shape[1], to.shape[1])
        to[:rows, :columns] = part[:rows, :columns]


class TileIndex:
    """The index of a tile store in memory: some 100 bytes an image and 4 a tile."""

    def __init__(self, store: Store) -> None:
        self._store = store
        table = read_table(store, INDEX_FILE)
        if lacks := INDEX_COLUMNS.keys() - set(table.column_names):
            uri = store.uri(INDEX_FILE)
            raise UserError(f"{uri}: no index of tiles, {min(lacks)!r} is missing; pack anew")
        table = table.filter(pc.equal(table["status"], STATUS_OK))
        self._at = {path: row for row, path in enumerate(table["path"].to_pylist())}
        names = ("shard", "offset", "height", "width", "tile_px", "codec")
        self._columns: dict[str, Any] = {name: table[name].combine_chunks() for name in names}
        sizes = table["tile_bytes"].combine_chunks()
        self._sizes = sizes.flatten().to_numpy()
        self._bounds = sizes.offsets.to_numpy() - sizes.offsets[0].as_py()

    def __len__(self) -> int:
        return len(self._at)

    def picture(self, path: str) -> TiledPicture:
        """The picture of an annotated path.

        Raises:
            ImageError: it is not in the store.
        """
        if path not in self._at:
            raise ImageError("not in the tile store")
        row = self._at[path]
        found = {name: column[row].as_py() for name, column in self._columns.items()}
        sizes = self._sizes[self._bounds[row] : self._bounds[row + 1]]
        starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        size_HW = (found["height"], found["width"])
        codec, side = found["codec"], found["tile_px"]
        return TiledPicture(
            self._store, Placed(found["shard"], found["offset"], size_HW, side, codec, starts)
        )


def shard_of(images: Sequence[list[bytes]]) -> tuple[bytes, list[int]]:
    """The shard that holds the tiles of several images, and where each image begins."""
    lengths = [sum(map(len, tiles)) for tiles in images]
    offsets = [sum(lengths[:number]) for number in range(len(lengths))]
    return b"".join(tile for tiles in images for tile in tiles), offsets


def _grid(size_HW: SizeHW, side: int) -> Iterator[Window]:
    height, width = size_HW
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield Window(top, left, min(side, height - top), min(side, width - left))


def _encode(tile_HWC: ImageHWC, codec: Codec) -> bytes:
    tile_HWC = np.ascontiguousarray(tile_HWC)
    if codec == "webp":
        return encode_lossless(tile_HWC, _WEBP_EFFORT)
    return bytes(pa.Codec("zstd", _ZSTD_LEVEL).compress(_residual(tile_HWC).data, asbytes=True))


def _decode(data: bytes, codec: Codec, size_HW: SizeHW) -> ImageHWC:
    tile_HWC = decode_fast(data) if codec == "webp" else _unzipped(data, size_HW)
    if tile_HWC is None or tile_HWC.shape[:2] != size_HW:
        raise ImageError("damaged tile store; pack it again")
    return tile_HWC


def _residual(tile_HWC: ImageHWC) -> ImageHWC:
    """Difference to the pixel above, modulo 256: small numbers, undone a whole row at a time."""
    residual = tile_HWC.copy()
    residual[1:] -= tile_HWC[:-1]
    return residual


def _unzipped(data: bytes, size_HW: SizeHW) -> ImageHWC | None:
    shape = (*size_HW, 3)
    try:
        raw = pa.Codec("zstd").decompress(data, decompressed_size=int(np.prod(shape)), asbytes=True)
    except (OSError, ValueError):
        return None
    residual = np.frombuffer(raw, np.uint8).reshape(shape)
    return np.add.accumulate(residual, axis=0, dtype=np.uint8)
