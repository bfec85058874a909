"""What is found under a folder before an image is read: labels and the published split."""

import pytest

from rayapp.annotate.found_images import find
from rayapp.annotate.settings import AnnotateSettings
from rayapp.config.errors import UserError


def tree(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return str(root)


def found(root, **more):
    return find(AnnotateSettings(input=root, output="unused", **more))


def subsets(root, **more):
    return {one.path: one.subset for one in found(root, **more).images}


def test_a_published_split_is_recognised_wherever_its_level_is(tmp_path):
    root = tree(
        tmp_path,
        "ADM/train/ai/a.png",
        "ADM/Val/ai/b.png",
        "ADM/train/nature/c.png",
        "ADM/Val/nature/d.png",
    )
    assert set(subsets(root).values()) == {"train", "Val"}
    assert set(subsets(root, split_by_folder=False).values()) == {""}
    # The layout has no say in it.
    assert subsets(root, layout="*/*/nature,GENERATOR")["ADM/Val/ai/b.png"] == "Val"


def test_a_class_that_is_called_train_is_no_split(tmp_path):
    root = tree(
        tmp_path,
        "progan/train/0_real/a.png",
        "progan/train/1_fake/b.png",
        "progan/cat/0_real/c.png",
        "progan/cat/1_fake/d.png",
    )
    assert set(subsets(root).values()) == {""}
    assert subsets(root, split_by_folder=True)["progan/train/0_real/a.png"] == "train"
    (tmp_path / "test").mkdir()
    tree(tmp_path, "test/biggan/0_real/e.png", "test/biggan/1_fake/f.png")
    by_path = subsets(root)
    assert by_path["test/biggan/0_real/e.png"] == "test"
    assert by_path["progan/train/0_real/a.png"] == ""


def test_the_test_folder_itself_is_a_test(tmp_path):
    root = tree(tmp_path / "test", "REAL/a.png", "FAKE/b.png")
    assert set(subsets(root).values()) == {"test"}
    root = tree(tmp_path / "train", "REAL/a.png", "FAKE/b.png")
    assert set(subsets(root).values()) == {""}
    with pytest.raises(UserError, match="no folder train, val or test"):
        found(tree(tmp_path / "all", "REAL/a.png", "FAKE/b.png"), split_by_folder=True)


def test_images_of_one_origin_are_a_set_too(tmp_path):
    assert found(tree(tmp_path / "a", "real/a.png", "real/deep/b.png")).layout == "real"
    assert found(tree(tmp_path / "nature", "a.png", "deep/b.png")).layout == ".=real"
    assert found(tree(tmp_path / "c", "a.png"), layout=".=synthetic").images[0].generator == (
        "synthetic"
    )
    # A layout that names both is wrong where one is not there.
    with pytest.raises(UserError, match="finds no synthetic image"):
        found(tree(tmp_path / "d", "real/a.png"), layout="real,synthetic/GENERATOR")
    # So is a set of which some is not known: it may be the other origin.
    with pytest.raises(UserError, match=r"give --layout real,GENERATOR$"):
        found(tree(tmp_path / "e", "real/a.png", "flux/b.png"))


def test_a_table_keeps_its_split_or_not(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("path,origin,split\na.png,real,train\nb.png,ai,test\n")
    assert subsets(str(table)) == {"a.png": "train", "b.png": "test"}
    assert set(subsets(str(table), split_by_folder=False).values()) == {""}
