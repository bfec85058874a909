"""A store as Arrow's file system."""

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from pyarrow.fs import FileSelector, FileType

from rayapp.storage.arrow_files import arrow_files
from rayapp.storage.uris import open_store

TABLE = pa.table({"a": list(range(10))})


def test_tables_are_written_and_found(tmp_path: Path):
    files = pickle.loads(pickle.dumps(arrow_files(open_store(tmp_path))))
    ds.write_dataset(TABLE, "out", format="parquet", filesystem=files)
    assert ds.dataset("out", filesystem=files).to_table().equals(TABLE)
    (found,) = files.get_file_info(FileSelector("out"))
    assert found.path == "out/part-0.parquet"
    assert files.get_file_info("out").type == FileType.Directory
    assert files.get_file_info("nowhere").type == FileType.NotFound
    files.move(found.path, "out/b.parquet")
    assert [stat.key for stat in open_store(tmp_path).list()] == ["out/b.parquet"]
    files.delete_dir("out")
    assert not list(open_store(tmp_path).list())


def test_what_is_cut_off_on_the_way_is_not_there(tmp_path: Path):
    def batches():
        yield from TABLE.to_batches()
        raise RuntimeError("the worker fails")

    files = arrow_files(open_store(tmp_path))
    reader = pa.RecordBatchReader.from_batches(TABLE.schema, batches())
    with pytest.raises(RuntimeError, match="the worker fails"):
        ds.write_dataset(reader, "out", format="parquet", filesystem=files, use_threads=False)
    assert not list(open_store(tmp_path).list())
