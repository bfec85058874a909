"""Walk, decide and remove without Ray: random trees, interrupted, and every refusal."""

import os
import shutil

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayapp.config.errors import UserError
from rayapp.prune import keep_or_remove
from rayapp.prune.remove import RemoveRows, remove_empty_folders
from rayapp.prune.walk import DEAD_LINK, FOLDER_LINK, LINK, split, walk
from rayapp.storage.store import LocalStore
from rayapp.storage.uris import open_store
from tests.prune.trees import build, content, expected, is_loose, trees


def walked(root):
    store = open_store(root)
    first, folders = split(store)
    return pa.concat_tables([first, *(walk(store, folder) for folder in folders)])


def going(root, annotated):
    return keep_or_remove.of(
        keep_or_remove.decide(walked(root), annotated), keep_or_remove.REMOVE
    ).to_pylist()


@settings(max_examples=60)
@given(trees(), st.integers(0, 20), st.booleans())
def test_what_is_left_is_the_annotated_set(tmp_path_factory, tree, stop, keep):
    """Cut off after some files, then done again; nothing outside the root is touched."""
    base = tmp_path_factory.mktemp("tree")
    root, outside = base / "root", base / "outside"
    build(tree, root, outside)
    before, away = content(root), content(outside)
    trash = open_store(base / "trash") if keep else None
    work = RemoveRows(open_store(root), trash)
    work.setup()
    work.batch(going(root, tree.annotated)[:stop])
    done = work.batch(going(root, tree.annotated))
    assert {row["status"] for row in done} <= {"ok"}
    remove_empty_folders(LocalStore(str(root)))
    left = expected(tree)
    assert content(root) == {path: before[path] for path in left}
    assert content(outside) == away
    if keep:
        gone = {
            path: data
            for path, data in before.items()
            if path not in left and not path.endswith(b"/")
        }
        assert content(base / "trash") == gone if gone else not (base / "trash").exists()
    shutil.rmtree(base)


@settings(max_examples=60)
@given(trees())
def test_every_name_that_nearly_matches_is_reported(tmp_path_factory, tree):
    base = tmp_path_factory.mktemp("tree")
    build(tree, base / "root", base / "outside")
    decisions = keep_or_remove.decide(walked(base / "root"), tree.annotated)
    for row in keep_or_remove.of(decisions, keep_or_remove.REMOVE).to_pylist():
        close = any(is_loose(row["path"], one) for one in tree.annotated)
        exact = row["path"] in tree.annotated
        if row["kind"] is None and row["raw"] is None and not exact:
            assert (row["note"] or "").startswith("differs from the annotated") == close
    shutil.rmtree(base)


def test_the_difference_is_named():
    assert keep_or_remove.difference("a/B.png", "a/b.png") == "case"
    assert keep_or_remove.difference("a\\b.png", "a/b.png") == "separator"
    assert keep_or_remove.difference("cafe\u0301", "caf\u00e9") == "Unicode form"
    assert (
        keep_or_remove.difference("A\\cafe\u0301", "a/caf\u00e9")
        == "Unicode form and case and separator"
    )


@pytest.fixture
def root(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/c/3.png", "4.png"):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "root"


def test_decisions_count_by_folder(root):
    decisions = keep_or_remove.decide(walked(root), ["a/1.png", "4.png", "gone/x.png"])
    counts = {one.folder: one for one in keep_or_remove.by_folder(decisions)}
    assert counts["a"] == keep_or_remove.Count("a", keep=1, keep_bytes=7, remove=1, remove_bytes=7)
    assert counts["."] == keep_or_remove.Count(".", keep=1, keep_bytes=5)
    assert counts["gone"] == keep_or_remove.Count("gone", missing=1)
    assert counts["b"].remove == 1
    lines = keep_or_remove.table_lines(list(counts.values()))
    assert lines[-1].split() == ["all", "2", "12", "B", "2", "16", "B", "1"]


def test_links_are_named_for_what_they_are(root, tmp_path):
    (root / "file").symlink_to(root / "4.png")
    (root / "folder").symlink_to(root / "a")
    (root / "dead").symlink_to(tmp_path / "nothing")
    (root / "ring").symlink_to(root / "ring")
    kinds = {row["path"]: row["kind"] for row in walked(root).to_pylist()}
    assert kinds["file"] == LINK
    assert kinds["folder"] == FOLDER_LINK
    assert kinds["dead"] == kinds["ring"] == DEAD_LINK
    assert len(kinds) == 8  # nothing behind the folder's link
    decisions = keep_or_remove.decide(walked(root), ["folder/1.png", "file", "dead"])
    rows = {(row["path"], row["decision"]): row["note"] for row in decisions.to_pylist()}
    assert "1 annotated images lie behind it" in rows["folder", "keep"]
    assert ("file", "keep") in rows
    assert ("dead", "missing") in rows
    assert rows["dead", "remove"] == "a link to nothing"


def test_our_own_files_stay(root):
    for name in ("manifest.parquet", "run.json", ".download/ledger/x", "lists/a.txt", "mine/x"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    kept = lambda **more: {  # noqa: E731
        row["path"]
        for row in keep_or_remove.of(
            keep_or_remove.decide(walked(root), ["4.png"], **more), keep_or_remove.KEEP
        ).to_pylist()
    }
    assert kept() == {"4.png", "manifest.parquet", "run.json", ".download/ledger/x"}
    assert kept(is_run=True) == kept() | {"lists/a.txt"}
    assert kept(own=["mine/", "a/1.png"]) == kept() | {"mine/x", "a/1.png"}


def test_the_wrong_root_and_missing_images_are_refused(root):
    with pytest.raises(UserError, match=r"none of the 1 .* only by case"):
        keep_or_remove.check_root(keep_or_remove.decide(walked(root), ["A/1.png"]), "ROOT")
    with pytest.raises(UserError, match=r"the first one there: 4.png"):
        keep_or_remove.check_root(keep_or_remove.decide(walked(root), ["x/1.png"]), "ROOT")
    with pytest.raises(UserError, match=r"2 annotated images are missing \(x, y\)"):
        keep_or_remove.check_complete(
            keep_or_remove.decide(walked(root), ["4.png", "y", "x"]), "ROOT"
        )
    keep_or_remove.check_root(keep_or_remove.decide(walked(root), ["4.png", "x"]), "ROOT")
    with pytest.raises(UserError, match="no folder"):
        split(open_store(root / "4.png"))


def test_what_changed_since_then_is_left(root, tmp_path):
    """A file of another size, and a folder that became a link out of the root."""
    rows = going(root, ["4.png"])
    (root / "a/1.png").write_text("a longer one")
    outside = tmp_path / "outside"
    (outside / "c").mkdir(parents=True)
    (outside / "c/3.png").write_text("b/c/3.png")
    shutil.rmtree(root / "b")
    (root / "b").symlink_to(outside)
    work = RemoveRows(open_store(root), None)
    work.setup()
    done = {row["path"]: row for row in work.batch(rows)}
    assert "changed since: 7 bytes then, 12 now" in done["a/1.png"]["error"]
    assert done["b/c/3.png"]["status"] == "failed"
    assert (outside / "c/3.png").exists()
    assert not (root / "a/2.png").exists()


def test_the_trash_loses_nothing(root, tmp_path):
    trash = tmp_path / "trash"
    (trash / "a").mkdir(parents=True)
    (trash / "a/1.png").write_text("of another day")
    work = RemoveRows(open_store(root), open_store(trash))
    work.setup()
    work.batch(going(root, ["4.png"]))
    assert (trash / "a/1.png").read_text() == "of another day"
    assert (trash / "a/1.png~1").read_text() == "a/1.png"
    assert os.listdir(root / "a") == []


def test_a_bucket_and_local_give_the_same_and_copies_stay_in_the_trash(root, tmp_path, bucket):
    store = open_store(f"{bucket}/prune/{tmp_path.name}/root")
    for path in root.rglob("*.png"):
        store.put(str(path.relative_to(root)), path.read_bytes())
    annotated = ["a/1.png", "4.png", "x"]
    here = keep_or_remove.decide(walked(root), annotated)
    there = keep_or_remove.decide(walked(store.root), annotated)
    assert here.equals(there)
    for trash in (
        open_store(f"{bucket}/prune/{tmp_path.name}/trash"),
        open_store(tmp_path / "trash"),
    ):
        store.put("b/c/3.png", b"b/c/3.png")
        work = RemoveRows(store, trash)
        work.setup()
        rows = going(store.root, annotated)
        for _ in range(2):  # done again, it is done already
            assert {row["status"] for row in work.batch(rows)} == {"ok"}
        assert sorted(stat.key for stat in store.list()) == ["4.png", "a/1.png"]
        assert trash.get("b/c/3.png") == b"b/c/3.png"
        assert trash.stat("b/c/3.png~1") is None


def test_deletes_on_s3_are_batched(tmp_path, s3, monkeypatch):
    from rayapp.storage.s3 import s3_client

    store = open_store(f"s3://{s3.bucket}/batched/{tmp_path.name}")
    for at in range(60):
        store.put(f"{at % 3}/{at}.png", b"x")
    requests = []
    client = s3_client()
    client.meta.events.register("before-send.s3.*", lambda request, **_: requests.append(request))
    work = RemoveRows(store, None)
    work.setup()
    work.batch(going(store.root, ["0/0.png"]))
    posts = [one for one in requests if one.method in {"POST", "DELETE"}]
    assert len(posts) == 1
    assert [stat.key for stat in store.list()] == ["0/0.png"]
