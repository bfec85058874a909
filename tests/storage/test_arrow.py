"""A bucket as pyarrow and Ray see it."""

import os
import pickle
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from rayapp.config.errors import UserError
from rayapp.storage.arrow import arrow_filesystem
from rayapp.storage.uris import open_store
from tests.doubles.clouds import Cloud


@pytest.fixture
def uri(bucket: str) -> str:
    return f"{bucket}/{uuid.uuid4().hex}/in a #1? prefix"


def test_a_folder_goes_there_and_comes_back(uri: str, tmp_path: Path) -> None:
    (tmp_path / "a/deep").mkdir(parents=True)
    files = {"state.pt": os.urandom(9 << 20), "deep/b c#é.json": b"{}", "deep/empty": b""}
    for name, data in files.items():
        (tmp_path / "a" / name).write_bytes(data)
    filesystem, path = arrow_filesystem(uri)
    there = pickle.loads(pickle.dumps(filesystem))
    assert there == filesystem
    fs.copy_files(str(tmp_path / "a"), f"{path}/kept", destination_filesystem=there)
    store = open_store(uri)
    assert {s.key: s.size for s in store.list()} == {f"kept/{n}": len(d) for n, d in files.items()}
    fs.copy_files(f"{path}/kept", str(tmp_path / "b"), source_filesystem=there)
    assert {name: (tmp_path / "b" / name).read_bytes() for name in files} == files
    there.move(f"{path}/kept/state.pt", f"{path}/state.pt")
    there.delete_dir(f"{path}/kept")
    assert [stat.key for stat in store.list()] == ["state.pt"]


def test_files_and_folders_are_told_apart(uri: str) -> None:
    open_store(uri).put("folder/deep/file", b"12345")
    there, path = arrow_filesystem(uri)
    kinds = [one.type for one in there.get_file_info([path, f"{path}/folder", f"{path}/absent"])]
    assert kinds == [fs.FileType.Directory, fs.FileType.Directory, fs.FileType.NotFound]
    found = there.get_file_info(f"{path}/folder/deep/file")
    assert (found.type, found.size) == (fs.FileType.File, 5)
    every = there.get_file_info(fs.FileSelector(path, recursive=True))
    assert sorted(one.path for one in every) == [
        f"{path}/folder",
        f"{path}/folder/deep",
        f"{path}/folder/deep/file",
    ]
    assert [one.path for one in there.get_file_info(fs.FileSelector(path))] == [f"{path}/folder"]
    with pytest.raises(FileNotFoundError):
        there.get_file_info(fs.FileSelector(f"{path}/absent"))
    with pytest.raises(FileNotFoundError):
        there.open_input_file(f"{path}/absent")


def test_parquet_is_written_and_read(uri: str) -> None:
    there, path = arrow_filesystem(uri)
    table = pa.table({"id": range(10_000), "name": [f"n{n}" for n in range(10_000)]})
    pq.write_table(table, f"{path}/t.parquet", filesystem=there, row_group_size=1_000)
    read = pq.ParquetFile(there.open_input_file(f"{path}/t.parquet"))
    assert read.read_row_group(7, ["id"])["id"].to_pylist() == list(range(7_000, 8_000))
    assert pq.read_table(path, filesystem=there) == table


def test_a_write_that_fails_is_told(cloud: Cloud) -> None:
    there, path = arrow_filesystem(f"{cloud.scheme}://there-is-none/x")
    with pytest.raises((OSError, UserError), match="no such"):
        there.open_output_stream(path).close()


def test_other_places_are_pyarrows_own(tmp_path: Path) -> None:
    filesystem, path = arrow_filesystem(str(tmp_path))
    assert (filesystem.type_name, path) == ("local", str(tmp_path))
