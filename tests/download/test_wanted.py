"""Lists cut up by source, in pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayapp.config.errors import UserError
from rayapp.dataset.labels import read_list
from rayapp.download import wanted
from rayapp.download.origins.catalogue import load_catalogue
from rayapp.run.record import digest
from rayapp.storage.store import LocalStore
from rayapp.storage.uris import open_store
from tests.download.helpers import SCHEME, catalogue, write_list

PUBLISHED = Path(__file__).resolve().parents[3] / "shared/imaginet/annotations"


def insides(root: Path, name: str) -> dict[str, str]:
    store = open_store(str(root))
    rows = [row for table in wanted.buckets(store, name) for row in table.to_pylist()]
    return {row["path"]: row["inside"] for row in rows}


def test_pieces_read_as_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = write_list(tmp_path / "l.txt", [f"train2017/é{n}.jpg" for n in range(500)])
    monkeypatch.setattr(wanted, "_PIECE_BYTES", 97)
    pieces = [item for items in wanted.items_of(uri, SCHEME) for item in items]
    assert [i.path for i in pieces] == [i.path for i in read_list(uri, SCHEME).items]


def test_a_defect_is_named_by_its_line_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "l.txt"
    path.write_text("a.jpg,0,0,4,8\n" * 100 + "b.jpg,7,0,4,8\n")
    monkeypatch.setattr(wanted, "_PIECE_BYTES", 50)
    with pytest.raises(UserError, match=r"l\.txt:101: origin 7"):
        list(wanted.items_of(str(path), SCHEME))


@pytest.mark.parametrize("bucket_bytes", [300, 1 << 20])
def test_each_image_once_and_to_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket_bytes: int
) -> None:
    monkeypatch.setattr(wanted, "_BUCKET_BYTES", bucket_bytes)
    names = [f"train2017/{n}.jpg" for n in range(40)] + ["other/x.jpg", "train2017/3.jpg"]
    uri = write_list(tmp_path / "l.txt", names)
    book = catalogue({"at": ["x"], "paths": {"train2017/": "inner/"}})
    store = open_store(str(tmp_path / "r"))
    assert wanted.cut_up(store, [uri], SCHEME, book.sources) == 1
    got = insides(tmp_path / "r", "it")
    assert got == {f"train2017/{n}.jpg": f"inner/{n}.jpg" for n in range(40)}


@pytest.mark.parametrize("names", [["corvi", "corvi_ucid"], ["corvi_ucid", "corvi"]])
def test_the_nearest_prefix_owns_a_path(tmp_path: Path, names: list[str]) -> None:
    """`corvi` takes every path, but not what another chosen source has, whatever their order."""
    uri = write_list(tmp_path / "l.txt", ["real_ucid/u.tif", "biggan_256/1.png"])
    store = open_store(str(tmp_path / "r"))
    assert wanted.cut_up(store, [uri], SCHEME, load_catalogue().choose(names)) == 0
    assert insides(tmp_path / "r", "corvi_ucid") == {"real_ucid/u.tif": "u.tif"}
    assert insides(tmp_path / "r", "corvi") == {"biggan_256/1.png": "biggan_256/1.png"}


def test_other_labels_for_one_path(tmp_path: Path) -> None:
    one = write_list(tmp_path / "1.txt", ["train2017/a.jpg"])
    two = write_list(tmp_path / "2.txt", ["train2017/a.jpg"], "1,3,2,6")
    book = catalogue({"at": ["x"]})
    with pytest.raises(UserError, match="labels"):
        wanted.cut_up(open_store(str(tmp_path / "r")), [one, two], SCHEME, book.sources)


class FoldingStore(LocalStore):
    """A folder on a disk that does not tell upper from lower case."""

    def _path(self, key: str) -> Path:
        return super()._path(key.casefold())


def test_29_two_names_that_are_one_file_there_are_refused(tmp_path: Path) -> None:
    book = catalogue({"at": ["x"]})
    lists = [
        write_list(tmp_path / "1.txt", ["train2017/a.jpg", "train2017/b.jpg"]),
        write_list(tmp_path / "2.txt", ["train2017/A.jpg"]),
    ]
    with pytest.raises(UserError, match=r"train2017/a\.jpg and train2017/A\.jpg are one file"):
        wanted.cut_up(FoldingStore(str(tmp_path / "r")), lists, SCHEME, book.sources)
    store = open_store(str(tmp_path / "s"))  # this disk tells them apart
    assert wanted.cut_up(store, lists, SCHEME, book.sources) == 0
    assert len(insides(tmp_path / "s", "it")) == 3


def test_no_such_list(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        list(wanted.items_of(str(tmp_path / "none.txt"), SCHEME))


@pytest.mark.slow
def test_the_published_test_list_goes_to_the_catalogues_sources(tmp_path: Path) -> None:
    uri = PUBLISHED / "test_annotations.txt"
    if not uri.exists():
        pytest.skip(f"the published lists are not at {PUBLISHED}")
    sources = load_catalogue().choose(["all"])
    store = open_store(str(tmp_path / "r"))
    assert wanted.cut_up(store, [str(uri)], SCHEME, sources) == 0
    counts = {name: len(insides(tmp_path / "r", name)) for name in sources}
    assert counts == {
        "imagenet": 1500,
        "coco": 3000,
        "progan_train": 0,
        "progan_val": 3000,
        "ffhq": 4500,
        "wikiart": 2250,
        "danbooru": 2250,
        "photozilla": 5000,
        "journeydb": 2500,
        "generated": 16000,
    }
    assert insides(tmp_path / "r", "imagenet").popitem()[1].startswith("ILSVRC/Data/CLS-LOC/")


def test_a_lists_digest_is_that_of_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wanted, "_PIECE_BYTES", 7)
    path = tmp_path / "list.txt"
    path.write_text("train2017/1.jpg,0,0,4,8\n" * 3)
    assert wanted.list_digest(str(path)) == digest(path.read_bytes())


def test_a_list_that_names_nothing_is_told(tmp_path: Path) -> None:
    full = write_list(tmp_path / "full.txt", ["train2017/1.jpg"])
    (tmp_path / "empty.txt").write_text("\n")
    book = catalogue({"at": ["x"], "paths": {"train2017/": "inner/"}})
    store = open_store(str(tmp_path / "out"))
    lists = [full, str(tmp_path / "empty.txt")]
    with pytest.raises(UserError, match=r"empty\.txt: names no image"):
        wanted.cut_up(store, lists, SCHEME, book.sources)
