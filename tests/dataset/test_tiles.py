from pathlib import Path

import numpy as np
import pytest

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.images import ImageError
from rayapp.dataset.labels import load_scheme
from rayapp.dataset.tiles import INDEX_COLUMNS, INDEX_FILE, Codec, TileIndex, shard_of, tiles_of
from rayapp.storage.uris import open_store
from rayapp.transforms import ImageHWC, Window

SIZES = ((300, 420), (40, 33), (128, 256), (129, 127))


def _image(size_HW: tuple[int, int]) -> ImageHWC:
    return np.random.default_rng(sum(size_HW)).integers(0, 256, (*size_HW, 3), dtype=np.uint8)


def _store(folder: Path, codec: Codec, tile_px: int = 64) -> TileIndex:
    store = open_store(folder)
    tiles = [tiles_of(_image(size), codec, tile_px) for size in SIZES]
    shard, offsets = shard_of(tiles)
    store.put("shards/one.tiles", shard)
    rows = [
        {
            "id": f"{number}.png",
            "path": f"{number}.png",
            "status": "ok",
            "error": "",
            "height": size[0],
            "width": size[1],
            "shard": "shards/one.tiles",
            "offset": offsets[number],
            "tile_px": tile_px,
            "codec": codec,
            "tile_bytes": [len(tile) for tile in tiles[number]],
        }
        for number, size in enumerate(SIZES)
    ]
    rows.append({"id": "bad.png", "path": "bad.png", "status": "failed", "error": "broken"})
    table = manifest.from_rows(rows, manifest.schema(load_scheme("demo"), INDEX_COLUMNS))
    manifest.write_table(store, INDEX_FILE, table)
    return TileIndex(store)


@pytest.mark.parametrize("codec", ["webp", "zstd"])
def test_any_window_is_equal_to_the_original_s_pixels(tmp_path: Path, codec: Codec) -> None:
    index = _store(tmp_path, codec)
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(SIZES):
        picture = index.picture(f"{number}.png")
        assert picture.size_HW == (height, width)
        for _ in range(20):
            h, w = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            expected = _image((height, width))[top : top + h, left : left + w]
            np.testing.assert_array_equal(picture.read(Window(top, left, h, w)), expected)
        whole = picture.read(Window(0, 0, height, width))
        np.testing.assert_array_equal(whole, _image((height, width)))


def test_a_crop_reads_only_the_bytes_of_its_tile_rows(tmp_path: Path) -> None:
    index = _store(tmp_path, "webp")
    asked = []

    class Counting:
        def get_range(self, key: str, start: int, length: int) -> bytes:
            asked.append(length)
            return open_store(tmp_path).get_range(key, start, length)

    picture = index.picture("0.png")
    total = int(picture.placed.starts[-1])
    type(picture)(Counting(), picture.placed).read(Window(70, 70, 50, 50))  # type: ignore[arg-type]
    assert len(asked) == 1
    assert asked[0] < total / 20


def test_what_is_not_in_the_store_or_damaged_is_an_image_error(tmp_path: Path) -> None:
    index = _store(tmp_path, "webp")
    for path in ("bad.png", "other.png"):
        with pytest.raises(ImageError, match="not in the tile store"):
            index.picture(path)
    whole = open_store(tmp_path).get("shards/one.tiles")
    open_store(tmp_path).put("shards/one.tiles", whole[:100] + bytes(len(whole) - 100))
    with pytest.raises(ImageError, match="damaged"):
        index.picture("0.png").read(Window(0, 0, 100, 100))


def test_damaged_zstd_tiles_are_an_image_error(tmp_path: Path) -> None:
    index = _store(tmp_path, "zstd")
    whole = open_store(tmp_path).get("shards/one.tiles")
    open_store(tmp_path).put("shards/one.tiles", bytes(len(whole)))
    with pytest.raises(ImageError, match="damaged"):
        index.picture("0.png").read(Window(0, 0, 100, 100))


def test_an_index_of_another_version_is_named(tmp_path: Path) -> None:
    _store(tmp_path, "zstd")
    store = open_store(tmp_path)
    table = manifest.read_table(store, INDEX_FILE).drop_columns(["codec"])
    manifest.write_table(store, INDEX_FILE, table)
    with pytest.raises(UserError, match=f"{INDEX_FILE}: no index of tiles, 'codec' is missing"):
        TileIndex(store)
