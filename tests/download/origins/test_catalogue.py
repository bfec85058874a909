"""The shipped catalogue, and a user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayapp.config.errors import UserError
from rayapp.download.origins.access import Access, origin_of, scheme_of
from rayapp.download.origins.catalogue import load_catalogue
from rayapp.download.source_plan import SourcePlan
from rayapp.download.source_plan_table import print_source_plans
from rayapp.storage.uris import open_store
from tests.download.helpers import catalogue


def test_the_shipped_catalogue() -> None:
    book = load_catalogue()
    images = {name for name, source in book.sources.items() if source.kind == "images"}
    assert images >= {
        "imagenet",
        "coco",
        "progan_train",
        "progan_val",
        "ffhq",
        "wikiart",
        "danbooru",
        "photozilla",
        "journeydb",
        "generated",
        "pack",
        "corvi",
        "corvi_coco",
        "corvi_imagenet",
        "corvi_ucid",
        "practical",
    }
    assert all(source.licence and source.attribution for source in book.sources.values())
    assert all(source.images for name, source in book.sources.items() if name in images)
    assert sum(s.images for s in book.choose(["all"]).values()) == 200_000
    assert len(book.sources["annotations"].files) == 26
    assert book.sources["generated"].licence_of("dalle3/x.png") == "CC0-1.0"
    assert book.sources["generated"].licence_of("dalle3_addition/x.png") == "CC-BY-4.0"
    drive = book.origin("drive")
    assert drive.units_per_s
    assert drive.units_per_s / drive.request_units == pytest.approx(27, 0.03)


def test_corvi_reals_come_from_their_sources() -> None:
    book = load_catalogue()
    chosen = book.choose(["corvi_coco", "corvi_imagenet", "corvi_ucid", "corvi"])
    assert chosen["corvi_coco"].inside("real_coco_valid/0001.jpg") == "val2017/0001.jpg"
    claims = {name: source.claim("real_ucid/u.tif") for name, source in chosen.items()}
    assert claims == {"corvi_coco": -1, "corvi_imagenet": -1, "corvi_ucid": 10, "corvi": 0}


def test_unknown_source() -> None:
    with pytest.raises(UserError, match="no source 'nothing'"):
        load_catalogue().choose(["nothing"])


def test_a_wrong_entry_is_named_by_file_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("origins: {}\nsources:\n  x:\n    about: a\n    at: [b]\n    form: rar\n")
    with pytest.raises(UserError, match=r"mine\.yaml:6.*form"):
        load_catalogue(str(path))


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "origins: {}\nsources: {mine: {about: mine, at: [/data/photos], form: folder}}\n"
    )
    with pytest.raises(
        UserError, match=r"form: folder is for drive:// and hf://, not /data/photos"
    ):
        load_catalogue(str(path))


def test_26_what_a_source_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "KAGGLE_API_TOKEN", "HF_TOKEN", "PW"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    access = Access(load_catalogue())
    book = access.catalogue.sources
    assert "GOOGLE_APPLICATION_CREDENTIALS" in access.lacks(book["ffhq"])
    assert "KAGGLE_API_TOKEN" in access.lacks(book["imagenet"])
    assert "HF_TOKEN" in access.lacks(book["journeydb"])
    assert access.lacks(book["coco"]) == ""
    locked = catalogue({"at": ["a.zip"], "password_variable": "PW"}).sources["it"]
    assert access.lacks(locked) == "PW"


def test_26_a_plan_tells_of_a_local_archive_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here.zip").write_bytes(b"")
    for name, told in (("here.zip", False), ("gone.zip", True)):
        book = catalogue({"at": [str(tmp_path / name)]})
        store = open_store(str(tmp_path))
        print_source_plans(book, book.sources, store, [SourcePlan("it", num_wanted=1)], 0)
        assert (f"{tmp_path}/{name} (no such file here)" in capsys.readouterr().out) == told


def test_origins() -> None:
    assert [scheme_of(u) for u in ("drive://a", "/a/b", "https://h/x")] == [
        "drive",
        "file",
        "https",
    ]
    assert origin_of("https://h/x") == "https://h"
    assert origin_of("drive://a") == origin_of("drive://b") == "drive"
