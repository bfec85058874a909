from pathlib import Path

import pytest

from rayapp import manifest
from rayapp.errors import UserError
from rayapp.labels import Item, load_scheme
from rayapp.predict.inputs import resolve
from rayapp.storage import open_store


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
    everything = ["a.jpg", "b.png", "deep/c.jpg", "deep/er/d.jpg", "deep/notes.md"]
    assert ids(tree / "in") == everything
    assert ids(f"{tree}/in/") == everything


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
    table = manifest.item_rows([Item("a", "a.jpg", (0, 0, 4, 8)), Item("b", "b.png", (1, 0, 1, 3))],
                               scheme)  # fmt: skip
    table = table.append_column("status", [["ok", "failed"]])
    manifest.write_table(open_store(tree / "in"), "manifest.parquet", table)
    found = resolve(str(tree / "in/manifest.parquet"), root=None, scheme="demo")
    assert found.table["id"].to_pylist() == ["a"]
    assert found.scheme is not None
    assert found.scheme.name == "imaginet"


@pytest.mark.parametrize("name", ["none", "none/*.jpg", "in/*.gif"])
def test_nothing_there_is_refused(tree: Path, name: str):
    with pytest.raises(UserError, match="no such file or folder"):
        ids(tree / name)
