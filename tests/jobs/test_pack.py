from pathlib import Path

import cv2
import numpy as np
import pytest

from rayapp.config.errors import UserError
from rayapp.dataset.images import decode
from rayapp.dataset.labels import Item, load_scheme, write_list
from rayapp.dataset.tiles import TileIndex
from rayapp.jobs.pack import pack
from rayapp.pack.expected_sizes import expected_bytes
from rayapp.pack.settings import PackSettings
from rayapp.pack.tile_rows import PackRows
from rayapp.storage.store import LocalStore
from rayapp.storage.uris import open_store
from rayapp.transforms import Window


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six images and a file that is none, in a list that names one of them twice."""
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"sub/{number}.{'png' if number % 2 else 'jpg'}" for number in range(6)]
    for number, name in enumerate(names):
        pixels = rng.integers(0, 256, (90 + 10 * number, 150, 3), dtype=np.uint8)
        cv2.imwrite(str(root / name), pixels)
    (root / "text.png").write_text("no image")
    items = [Item(name, name, (0, 0, 4, 4)) for name in [*names, names[0], "text.png"]]
    write_list(open_store(root), "all.txt", items, load_scheme("demo"))
    return root


def _rows(*names: str) -> list[dict[str, str]]:
    return [{"id": name, "path": name} for name in names]


def test_a_batch_becomes_one_shard_of_the_same_name_each_time(images: Path, tmp_path: Path) -> None:
    work = PackRows(open_store(images), LocalStore(str(tmp_path / "out")), "webp", 64)
    first = work.batch(_rows("sub/0.jpg", "text.png", "sub/1.png"))
    assert [row["status"] for row in first] == ["ok", "failed", "ok"]
    assert "not an image" in first[1]["error"]
    assert first[0]["shard"] == first[2]["shard"]
    assert first[2]["offset"] == sum(first[0]["tile_bytes"])
    assert work.batch(_rows("sub/0.jpg", "text.png", "sub/1.png")) == first


def test_sizes_are_expected_from_a_sample(images: Path) -> None:
    found = _rows("sub/1.png", "text.png")
    sizes = expected_bytes(open_store(images), found, 64)
    assert sizes["originals"] == (images / "sub/1.png").stat().st_size
    assert sizes.keys() == {"originals", "webp", "zstd"}
    with pytest.raises(UserError, match=r"none of 1 images tried can be read; last text.png"):
        expected_bytes(open_store(images), found[1:], 64)


@pytest.mark.ray
def test_every_image_is_packed_once_and_reads_back(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = PackSettings(
        annotations=(str(images / "all.txt"),),
        root=str(images),
        output=str(tmp_path / "tiles"),
        scheme="demo",
        tile_px=64,
    )
    run = pack(settings)
    assert run.counts["in"] == 7
    assert (run.counts["packed"], run.counts["failed"]) == (6, 1)
    assert "expected" in capsys.readouterr().out
    index = TileIndex(open_store(settings.output))
    assert len(index) == 6
    for name in ("sub/0.jpg", "sub/5.png"):
        expected = decode((images / name).read_bytes()).pixels_HWC
        picture = index.picture(name)
        assert picture.size_HW == expected.shape[:2]
        np.testing.assert_array_equal(picture.read(Window(5, 60, 70, 80)), expected[5:75, 60:140])
    assert pack(settings).state == "done"
