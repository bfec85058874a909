import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from rayapp.config.errors import UserError
from rayapp.dataset.images import perceptual_hash
from rayapp.dataset.labels import load_scheme, read_list
from rayapp.dataset.leakage import identities, leaks, refuse, trained_on

PUBLISHED = [
    ("annotations/test_calibration.txt", ["annotations/test_all.txt"], "imaginet", 80),
    ("suites/annotations_calib_corvi.txt", ["suites/annotations_corvi.txt"], "corvi", 48),
    ("suites/annotations_calib_practical.txt", ["suites/Test_*.txt"], "practical", 24),
]


@pytest.mark.parametrize(("calibration", "tests", "scheme", "number"), PUBLISHED)
def test_the_published_leaks_are_found(
    published: Path, calibration: str, tests: list[str], scheme: str, number: int
):
    own = read_list(published / calibration, load_scheme(scheme)).items
    files = [file for pattern in tests for file in sorted(published.glob(pattern))]
    test = [item for file in files for item in read_list(file, load_scheme(scheme)).items]
    found = leaks(identities(own, []), identities(test, []))
    assert (found.num_rows, len(own)) == (number, number)
    with pytest.raises(UserError, match=rf"{number} of {number} calibration images .*by path"):
        refuse([("the test set", found)], identities(own, []), "take others")


def test_what_a_detector_was_trained_on(tmp_path: Path):
    (tmp_path / "train.txt").write_text("a.png,0,0,4,8\n./b.png,0,0,4,8\n")
    lists = [str(tmp_path / "train.txt"), str(tmp_path / "gone.txt")]
    recorded = {"annotations": lists, "scheme": "imaginet", "root": str(tmp_path)}
    assert trained_on({"settings": recorded}, f"{tmp_path}/") == {"a.png", "b.png"}
    assert trained_on({"settings": recorded}, "/elsewhere") == set()
    assert trained_on({}, str(tmp_path)) == set()


def table(**columns: list[str | None]) -> pa.Table:
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def test_the_same_path_with_other_bytes_is_another_image():
    own = table(path=["a.png", "b.png"], sha256=["1", "2"])
    other = table(path=["a.png", "b.png"], sha256=["9", None])
    assert leaks(own, other)["path"].to_pylist() == ["b.png"]  # unknown bytes: the path tells


def test_the_same_bytes_under_another_name():
    own = table(path=["a.png"], sha256=["1"])
    found = leaks(own, table(path=["x/b.png"], sha256=["1"]))
    assert found.to_pylist()[0]["how"] == "sha256"
    refuse([("the test set", found.slice(0, 0))], own, "take others")


def test_a_reencoded_copy_is_found_by_its_look():
    random = np.random.default_rng(0)
    small = random.integers(0, 255, (12, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((200, 160), Image.Resampling.BICUBIC)
    sink = io.BytesIO()
    picture.resize((150, 120)).save(sink, "JPEG", quality=60)
    copy = np.asarray(Image.open(sink).convert("RGB"))
    hashes = [perceptual_hash(np.asarray(picture)), perceptual_hash(copy)]
    own = table(path=["a.png"], sha256=["1"], perceptual_hash=hashes[:1])
    other = table(path=["b.jpg"], sha256=["2"], perceptual_hash=hashes[1:])
    found = leaks(own, other)
    assert found["how"].to_pylist() == ["near"]
    with pytest.raises(UserError, match=r"1 of 1 .*1 by look.*a\.png \(b\.jpg\)"):
        refuse([("the test set", found)], own, "take others")
