import json
import os
from pathlib import Path

import pytest

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.inputs.listed_inputs import resolve
from rayapp.dataset.labels import Item, load_scheme
from rayapp.storage.s3 import _client_of
from rayapp.storage.uris import open_store
from tests.doubles.s3 import READER


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.png", "deep/c.jpg", "deep/er/d.jpg", "deep/notes.md"):
        file = tmp_path / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return tmp_path


def ids(uri: object, **options: object) -> list[str]:
    found = resolve(str(uri), root=options.get("root"), scheme="imaginet")
    return found.table["id"].to_pylist()


def test_a_folder_is_every_file_below_it(tree: Path):
    everything = ["a.jpg", "b.png", "deep/c.jpg", "deep/er/d.jpg"]
    assert ids(tree / "in") == everything
    assert ids(f"{tree}/in/") == everything


def test_what_is_no_image_is_left_out_and_counted(tree: Path):
    for name in (
        ".DS_Store",
        "deep/.DS_Store",
        "._a.jpg",
        "Thumbs.db",
        "__MACOSX/a.jpg",
        "a.jpg~",
        "a.json",
        "table.parquet",
        "movie.mp4",
        "no suffix",
    ):
        (tree / "in" / name).parent.mkdir(exist_ok=True)
        (tree / "in" / name).write_bytes(b"x")
    found = resolve(str(tree / "in"))
    tried = ["a.jpg", "b.png", "deep/c.jpg", "deep/er/d.jpg", "movie.mp4", "no suffix"]
    assert found.table["id"].to_pylist() == tried
    assert found.left_out == {
        ".DS_Store": 2,
        "._*": 1,
        "Thumbs.db": 1,
        "__MACOSX/": 1,
        "*~": 1,
        ".json": 1,
        ".md": 1,
        ".parquet": 1,
    }


def test_a_folder_of_nothing_but_that_is_refused(tree: Path):
    (tree / "none").mkdir()
    (tree / "none/.DS_Store").write_bytes(b"x")
    with pytest.raises(UserError, match=r"holds no image \(left out: 1 \.DS_Store\)"):
        ids(tree / "none")


def test_a_name_that_is_not_utf8_is_told_by_its_bytes(tree: Path):
    Path(os.fsdecode(os.fsencode(str(tree / "in")) + b"/c\xff.jpg")).write_bytes(b"x")
    assert "c\\udcff.jpg" in ids(tree / "in")


def test_links_that_lead_nowhere_are_missed_not_skipped(tree: Path):
    (tree / "in/gone.jpg").symlink_to("nowhere.jpg")
    (tree / "in/ring.jpg").symlink_to("ring.jpg")
    (tree / "in/also.jpg").symlink_to("a.jpg")
    (tree / "in/folder").symlink_to("deep")
    found = ids(tree / "in")
    assert {"gone.jpg", "ring.jpg", "also.jpg"} <= set(found)
    assert len(found) == 7
    assert "gone.jpg" in ids(tree / "in/*.jpg")
    store = open_store(tree / "in")
    listed = {stat.key for stat in store.list()}
    assert listed == set(found) - {"gone.jpg", "ring.jpg"} | {"deep/notes.md"}


def test_patterns(tree: Path):
    assert ids(tree / "in/*.jpg") == ["a.jpg"]
    assert ids(tree / "in/**/*.jpg") == ["a.jpg", "deep/c.jpg", "deep/er/d.jpg"]
    assert ids(tree / "in/deep/?.jpg") == ["c.jpg"]
    assert ids(tree / "in/[ab].*") == ["a.jpg", "b.png"]


def test_one_file(tree: Path):
    assert ids(tree / "in/deep/c.jpg") == ["c.jpg"]


def test_a_list_needs_a_root_and_brings_labels(tree: Path):
    (tree / "list.txt").write_text("./deep/c.jpg,1,0,1,3\n./a.jpg,0,0,4,8\n")
    found = resolve(str(tree / "list.txt"), root=str(tree / "in"), scheme="imaginet")
    assert found.table["path"].to_pylist() == ["deep/c.jpg", "a.jpg"]
    assert found.table["origin"].to_pylist() == [1, 0]
    with pytest.raises(UserError, match="needs --root"):
        ids(tree / "list.txt")


def test_a_manifest_leaves_out_what_was_not_made(tree: Path):
    scheme = load_scheme("imaginet")
    table = manifest.item_rows(
        [Item("a", "a.jpg", (0, 0, 4, 8)), Item("b", "b.png", (1, 0, 1, 3))], scheme
    )
    table = table.append_column("status", [["ok", "failed"]])
    manifest.write_table(open_store(tree / "in"), "manifest.parquet", table)
    found = resolve(str(tree / "in/manifest.parquet"), root=None, scheme="demo")
    assert found.table["id"].to_pylist() == ["a"]
    assert found.scheme is not None
    assert found.scheme.name == "imaginet"


def test_a_manifest_under_a_scheme_of_ones_own(tree: Path):
    own = load_scheme("demo").model_copy(update={"name": "mine"})
    (tree / "mine.yaml").write_text(json.dumps(own.model_dump(exclude_defaults=True)))
    table = manifest.item_rows([Item("a", "a.jpg", (0, 0, 4, 4))], own)
    manifest.write_table(open_store(tree / "in"), "manifest.parquet", table)
    uri = str(tree / "in/manifest.parquet")
    found = resolve(uri, root=None, scheme=str(tree / "mine.yaml"))
    assert (found.scheme, found.table["generator"].to_pylist()) == (own, [4])
    with pytest.raises(UserError, match=r"under a scheme 'mine'.*give its file with --scheme"):
        resolve(uri, root=None, scheme="imaginet")


@pytest.mark.parametrize("name", ["none", "none/*.jpg", "in/*.gif"])
def test_nothing_there_is_refused(tree: Path, name: str):
    with pytest.raises(UserError, match="no such file or folder"):
        ids(tree / name)


@pytest.mark.slow  # a server of its own, with the policy
def test_reading_images_needs_no_more_than_the_shipped_policy(s3, new_s3_client, monkeypatch):
    open_store("s3://test/readable").put("a/1.png", b"1")
    _client_of.cache_clear()
    for name, value in READER.items():
        monkeypatch.setenv(name, value)
    inputs = resolve("s3://test/readable", root=None, scheme="imaginet")
    assert inputs.table["path"].to_pylist() == ["a/1.png"]
    assert inputs.root.get("a/1.png") == b"1"
    assert resolve("s3://test/readable/a/1.png", root=None, scheme="imaginet").table.num_rows == 1
    with pytest.raises(UserError, match="access denied"):
        inputs.root.put("a/2.png", b"2")
    policy = json.loads((Path(__file__).parents[3] / "docs/iam-read-only.json").read_text())
    actions = [one["Action"] for one in policy["Statement"]]
    assert actions == ["s3:ListBucket", "s3:GetObject"]
