"""Which shards an input is."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rayapp.config.errors import UserError
from rayapp.dataset.inputs.input_shards import find_shards
from rayapp.run.large_inputs import LargeInputs, find_inputs
from tests.sets import as_folder, as_tables, as_tars

IMAGES = {f"{at:03}.png": b"x" for at in range(6)}


def kinds(uri: object, least: int = 0) -> list[tuple[str, str, str]] | None:
    found = find_shards(str(uri), None, None, least)
    return found and [(one.kind, one.file.key, one.column) for one in found.shards]


def test_tables_and_tars_by_folder_pattern_braces_and_name(tmp_path: Path):
    tables, tars = as_tables(tmp_path / "t", IMAGES), as_tars(tmp_path / "w", IMAGES, 3)
    names = [f"train-0000{at}-of-00002.parquet" for at in range(2)]
    assert kinds(tables) == [("images", name, "image") for name in names]
    assert kinds(f"{tables}/*1-of*.parquet") == [("images", names[1], "image")]
    shards = [("tar", f"00000{at}.tar", "") for at in (1, 2)]
    assert kinds(f"{tars}/{{000001..000002}}.tar") == shards
    assert kinds(tars / "000002.tar") == shards[1:]
    with pytest.raises(UserError, match=r"000003\.tar: no such file"):
        kinds(f"{tars}/{{000001..000003}}.tar")


def test_what_is_small_or_listed_is_no_shard(tmp_path: Path):
    assert kinds(as_tables(tmp_path / "t", IMAGES), least=7) is None
    assert kinds(as_tars(tmp_path / "w", IMAGES), least=7) is None
    assert kinds(as_folder(tmp_path / "f", IMAGES)) is None
    as_tables(tmp_path / "f", IMAGES)
    assert kinds(tmp_path / "f") is None


def test_tables_of_addresses_and_of_paths(tmp_path: Path):
    pq.write_table(pa.table({"url": ["http://x/a"], "text": ["b"]}), tmp_path / "u.parquet")
    assert kinds(tmp_path / "u.parquet", least=9) == [("urls", "u.parquet", "url")]
    pq.write_table(pa.table({"file_name": ["a.png"]}), tmp_path / "p.parquet")
    assert kinds(tmp_path / "p.parquet") == [("paths", "p.parquet", "file_name")]
    with pytest.raises(UserError, match="give one kind"):
        kinds(tmp_path)


def test_a_folder_of_many_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rayapp.run.large_inputs._LISTED_ROWS", 4)
    folder = as_folder(tmp_path / "f", IMAGES | {"notes.txt": b"n"})

    def found(stream: bool | None) -> object:
        given = {"root": None, "scheme": "imaginet", "column": None, "stream": stream}
        scratch, output = str(tmp_path / "scratch"), str(tmp_path / "out")
        return find_inputs(str(folder), **given, scratch=scratch, output=output)

    assert not isinstance(found(None), LargeInputs)
    monkeypatch.setattr("rayapp.run.large_inputs.LARGE", 5)
    large = found(None)
    assert isinstance(large, LargeInputs)
    assert [one.num_rows for one in large.shards.shards] == [4, 2]
    assert large.shards.left_out == {".txt": 1}
    assert not isinstance(found(False), LargeInputs)
    assert found(True).digest == large.digest
