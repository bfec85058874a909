"""A folder of tables: settled after a kill, described, and read as one table of scores."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayapp.config.errors import UserError
from rayapp.dataset import manifest, scores
from rayapp.run.dataset_folder import DatasetFolder, read_part
from rayapp.storage.uris import open_store

SCHEMA = scores.with_root(pa.schema([("row", pa.int64()), *scores.schema()]), "/images")


def put(folder: DatasetFolder, name: str, numbers: range) -> None:
    rows = [
        {"row": n, "id": f"{n}.png", "path": f"{n}.png", "logit": n, "detector_hash": "d"}
        | {"status": "ok"}
        for n in numbers
    ]
    key = f"{folder.name}/{name}.parquet"
    manifest.write_table(folder.store, key, pa.Table.from_pylist(rows, schema=SCHEMA))


def test_a_part_whose_writing_was_cut_off_is_removed(tmp_path: Path):
    folder = DatasetFolder(open_store(tmp_path), "scores")
    put(folder, "part-a-000000-0", range(3))
    put(folder, "part-a-000001-0", range(3, 9))
    folder.store.put(f"{folder.checkpoint}/part-a-000000.parquet", b"")
    folder.store.put(f"{folder.checkpoint}/part-a-000001.pending.parquet", b"")
    again = DatasetFolder(folder.store, "scores")
    again.settle()
    assert np.flatnonzero(again.done.of(0)).tolist() == [0, 1, 2]
    assert [stat.key for stat in again.parts()] == ["scores/part-a-000000-0.parquet"]


def test_scores_of_a_folder_are_read_once_it_is_whole(tmp_path: Path):
    folder = DatasetFolder(open_store(tmp_path / "out"), "scores")
    put(folder, "part-a-000000-0", range(3))
    put(folder, "part-a-000001-0", range(3, 9))
    with pytest.raises(UserError, match="no scores"):
        scores.require_scores([str(tmp_path)])
    parts = [read_part(folder.store, stat.key)[1] for stat in folder.parts()]
    folder.finish(parts, {"job": "predict"})
    for uri in (tmp_path, tmp_path / "out/scores"):
        scores.require_scores([str(uri)])
        found = scores.read_matching([str(uri)], "d", "/images")
        assert found["logit"].to_pylist() == list(range(9))
    assert scores.read_scores(folder.store, "d").num_rows == 9
    assert scores.read_matching([str(tmp_path)], "other").num_rows == 0
    # Beside the one table, its rows count once.
    table = scores.read_scores(folder.store).select(scores.schema().names).slice(0, 4)
    manifest.write_table(folder.store, "scores.parquet", table.replace_schema_metadata(None))
    assert scores.read_matching([str(tmp_path)], "d").num_rows == 4
