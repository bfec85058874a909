from pathlib import Path

import numpy as np
import pytest
import torch

from rayapp.dataset import manifest
from rayapp.dataset.images import decode
from rayapp.dataset.labels import load_scheme
from rayapp.dataset.tiles import INDEX_COLUMNS, INDEX_FILE, Codec
from rayapp.pack.tile_rows import PackRows
from rayapp.storage.uris import open_store
from rayapp.train.data.crops import Crops, TileSource, Unreadable, collate
from rayapp.train.data.items import TrainItem
from rayapp.transforms import PLAIN, apply, load_perturbation


def _crops(data: Path, *names: str, seed: int = 1) -> Crops:
    items = [TrainItem(name, name, (1, 0, 2, 2), 1) for name in names]
    return Crops(items, str(data), load_perturbation(str(data / "tiny.yaml")), seed)


def test_a_crop_is_the_plan_applied_to_the_whole_image(data: Path) -> None:
    crops = _crops(data, "00.png", "01.png")
    whole = decode(open_store(data).get("01.png")).pixels_HWC
    plan = crops._perturbation.draw(whole.shape[:2], "01.png", 1, 5)[PLAIN]
    crop = crops[5, 1]
    assert not isinstance(crop, Unreadable)
    np.testing.assert_array_equal(crop[0], apply(plan, whole))


def test_augmentation_depends_on_seed_epoch_and_item_alone(data: Path) -> None:
    one = _crops(data, "00.png", "03.png")
    other = _crops(data, "03.png")
    item = one.items[1]
    np.testing.assert_array_equal(one.crop(item, 2), other.crop(item, 2))
    assert (one.crop(item, 3) != one.crop(item, 2)).any()
    assert (_crops(data, "03.png", seed=2).crop(item, 2) != one.crop(item, 2)).any()


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(data: Path, tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes((data / "00.png").read_bytes())
    (tmp_path / "bad.png").write_bytes((data / "00.png").read_bytes()[:60])
    items = [TrainItem(n, n, (0, 0, 4, 4), 0) for n in ("good.png", "bad.png", "gone.png")]
    crops = Crops(items, str(tmp_path), load_perturbation(str(data / "tiny.yaml")), 1)
    batch = collate([crops[0, index] for index in range(3)])
    assert len(batch) == 1
    assert batch.inputs.shape == (1, 16, 16, 3)
    assert batch.inputs.dtype == torch.uint8
    assert set(batch.failures) == {"bad.png", "gone.png"}
    assert len(collate([crops[0, 2]])) == 0


@pytest.mark.parametrize("codec", ["webp", "zstd"])
def test_crops_from_a_tile_store_are_those_from_the_files(
    data: Path, tmp_path: Path, codec: Codec
) -> None:
    names = ["00.png", "01.png", "02.png"]
    work = PackRows(open_store(data), open_store(tmp_path), codec, 16)
    rows = work.batch([{"id": name, "path": name} for name in names])
    table = manifest.from_rows(rows, manifest.schema(load_scheme("demo"), INDEX_COLUMNS))
    manifest.write_table(open_store(tmp_path), INDEX_FILE, table)
    files, tiles = _crops(data, *names), _crops(data, *names)
    tiles._root = str(tmp_path)
    for epoch in range(4):
        for item in files.items:
            np.testing.assert_array_equal(files.crop(item, epoch), tiles.crop(item, epoch))
    assert isinstance(tiles._source, TileSource)
