from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rayapp.config.errors import UserError
from rayapp.demo import photographs
from rayapp.demo.photographs import CROP_PX, MIN_ACTIVITY, SPLITS


def test_no_scene_is_in_two_splits_and_test_has_four():
    found = photographs.shipped_photographs()
    splits = {photo.scene: {p.split for p in found if p.scene == photo.scene} for photo in found}
    assert all(len(one) == 1 for one in splits.values())
    assert sum(one == {"test"} for one in splits.values()) >= 4
    assert {photo.split for photo in found} == set(SPLITS)
    assert sum(photo.scene == "motorcycle" for photo in found) == 2


def test_every_photograph_names_its_licence_and_source():
    for photo in photographs.shipped_photographs():
        assert photo.licence
        assert Path(photo.file).name in photo.source


def test_smooth_crops_are_left_out(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (CROP_PX, 3 * CROP_PX, 3), np.uint8)
    noise[:, CROP_PX:] = 128
    Image.fromarray(noise).save(tmp_path / "half.png")
    photo = photographs.Photograph(str(tmp_path / "half.png"), "s", "test", "s", "own")
    found = photographs.crops(photo, 100)
    assert found
    assert all(photographs.activity(crop.pixels_HWC) >= MIN_ACTIVITY for crop in found)
    # A crop is kept while at least half of its blocks have texture.
    assert max(crop.left for crop in found) <= CROP_PX // 2 + 32


def test_crops_are_whole_numbered_and_at_most_as_many_as_asked():
    photo = photographs.shipped_photographs()[0]
    found = photographs.crops(photo, 5)
    assert [crop.number for crop in found] == list(range(5))
    assert {crop.pixels_HWC.shape for crop in found} == {(CROP_PX, CROP_PX, 3)}


@pytest.mark.parametrize("count", [7, 20])
def test_own_photographs_fill_every_split(tmp_path: Path, count: int):
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    found = photographs.own_photographs(str(tmp_path))
    numbers = {split: sum(p.split == split for p in found) for split in SPLITS}
    assert sum(numbers.values()) == count
    assert numbers["test"] >= 4
    assert min(numbers.values()) >= 1


def test_too_few_own_photographs_are_refused(tmp_path: Path):
    for number in range(7):  # the same picture seven times is one photograph
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    with pytest.raises(UserError, match="1 different photographs, at least 7"):
        photographs.own_photographs(str(tmp_path))
    with pytest.raises(UserError, match="no such folder"):
        photographs.own_photographs(str(tmp_path / "none"))
