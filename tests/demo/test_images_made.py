from collections import Counter

import numpy as np
import pytest

from rayapp.demo.generators import FAMILIES, HELD_OUT
from rayapp.demo.images_made import CODES, images_to_make
from rayapp.demo.photographs import shipped_photographs
from rayapp.metrics.ranking import roc_auc


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return images_to_make(shipped_photographs(), 24).to_pylist()


def test_the_held_out_family_is_in_test_only(rows):
    held = [row["split"] for row in rows if row["generator"] == CODES[HELD_OUT]]
    assert held
    assert set(held) == {"test"}


def test_both_classes_show_the_same_crops(rows):
    for split in ("train", "head", "calibration", "test"):
        crops = {
            origin: {
                (r["photo"], r["number"])
                for r in rows
                if r["split"] == split and r["origin"] == origin
            }
            for origin in (0, 1)
        }
        assert crops[0] == crops[1]


def test_each_test_crop_goes_through_every_family(rows):
    counts = Counter(row["generator"] for row in rows if row["split"] == "test")
    assert len(counts) == len(FAMILIES) + 1
    assert len(set(counts.values())) == 1


def test_names_are_unique_and_tell_nothing(rows):
    names = [row["path"] for row in rows]
    assert len(set(names)) == len(names)
    assert len({len(name) for name in names}) == 1
    origin = [row["origin"] for row in rows]
    auc = roc_auc(origin, np.argsort(np.argsort(names)).astype(float)).value
    assert auc is not None
    assert 0.45 <= auc <= 0.55
