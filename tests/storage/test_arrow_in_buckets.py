"""A bucket as Arrow and Ray see it."""

import os
import pickle
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from rayapp.config.errors import UserError
from rayapp.storage.arrow_files import arrow_files
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store
from tests.doubles.clouds import ACCOUNT_KEY, Cloud


@pytest.fixture
def store(bucket: str) -> Store:
    return open_store(f"{bucket}/{uuid.uuid4().hex}/in a #1? prefix")


def test_a_folder_goes_there_and_comes_back(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a/deep/er").mkdir(parents=True)
    files = {"state.pt": os.urandom(9 << 20), "deep/er/b c#é.json": b"{}", "deep/empty": b""}
    for name, data in files.items():
        (tmp_path / "a" / name).write_bytes(data)
    sent = pickle.dumps(arrow_files(store))
    assert ACCOUNT_KEY.rstrip("=").encode() not in sent
    there = pickle.loads(sent)
    assert there == arrow_files(store)
    fs.copy_files(str(tmp_path / "a"), "kept", destination_filesystem=there)
    assert {s.key: s.size for s in store.list()} == {f"kept/{n}": len(d) for n, d in files.items()}
    fs.copy_files("kept", str(tmp_path / "b"), source_filesystem=there)
    assert {name: (tmp_path / "b" / name).read_bytes() for name in files} == files
    there.move("kept/state.pt", "state.pt")
    there.delete_dir("kept")
    assert [stat.key for stat in store.list()] == ["state.pt"]


def test_files_and_folders_are_told_apart(store: Store) -> None:
    store.put("folder/deep/file", b"12345")
    there = arrow_files(store)
    kinds = [one.type for one in there.get_file_info(["", "folder", "absent"])]
    assert kinds == [fs.FileType.Directory, fs.FileType.Directory, fs.FileType.NotFound]
    found = there.get_file_info("folder/deep/file")
    assert (found.type, found.size) == (fs.FileType.File, 5)
    every = there.get_file_info(fs.FileSelector("folder", recursive=True))
    assert [one.path for one in every] == ["folder/deep", "folder/deep/file"]
    assert [one.path for one in there.get_file_info(fs.FileSelector(""))] == ["folder"]
    for ask in (
        lambda: there.get_file_info(fs.FileSelector("absent")),
        lambda: there.open_input_file("absent"),
        lambda: there.open_input_stream("absent"),
    ):
        with pytest.raises(FileNotFoundError):
            ask()


def test_parquet_is_written_and_read_by_its_parts(store: Store) -> None:
    there = arrow_files(store)
    table = pa.table({"id": range(10_000), "name": [f"n{n}" for n in range(10_000)]})
    pq.write_table(table, "t.parquet", filesystem=there, row_group_size=1_000)
    read = pq.ParquetFile(there.open_input_file("t.parquet"))
    assert read.read_row_group(7, ["id"])["id"].to_pylist() == list(range(7_000, 8_000))
    assert pq.read_table("t.parquet", filesystem=there) == table


def test_a_write_that_fails_is_told(cloud: Cloud) -> None:
    there = arrow_files(open_store(f"{cloud.scheme}://there-is-none/x"))
    with pytest.raises((OSError, UserError), match="no such"):
        there.open_output_stream("file").close()
