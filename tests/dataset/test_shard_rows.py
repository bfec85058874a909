"""Rows of shards: each with its number, name, bytes and label; damage is told row by row."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from rayapp.dataset.inputs.input_shards import find_shards
from rayapp.dataset.shard_rows import read
from rayapp.dataset.shards import SHARD_ROWS, ShardSet
from tests.sets import as_tables, as_tars, label_of

IMAGES = {f"{at:03}.png": bytes([at]) * (at + 1) for at in range(10)}


def found(folder: Path) -> ShardSet:
    shards = find_shards(str(folder), None, None, 0)
    assert shards is not None
    return shards


def rows(shards: ShardSet, done: np.ndarray | None = None) -> list[dict[str, object]]:
    tables = [table for piece in shards.pieces() for table in read(shards, piece, done)]
    return pa.concat_tables(tables).to_pylist() if tables else []


def test_rows_of_tables(tmp_path: Path):
    shards = found(as_tables(tmp_path, IMAGES))
    assert shards.num_rows == 10
    assert shards.kept.names == ["label"]
    seen = rows(shards)
    assert [row["row"] for row in seen] == [*range(5), *range(SHARD_ROWS, SHARD_ROWS + 5)]
    assert [row["data"] for row in seen] == list(IMAGES.values())
    assert seen[7]["path"] == "train-00001-of-00002.parquet/2_007.png"
    assert [row["label"] for row in seen] == [label_of(name) for name in IMAGES]


def test_rows_of_tars_bring_what_stands_beside_them(tmp_path: Path):
    shards = found(as_tars(tmp_path, IMAGES))
    assert shards.num_rows is None
    seen = rows(shards)
    assert [row["path"] for row in seen[:2]] == ["000000.tar/000.png", "000000.tar/001.png"]
    assert [row["data"] for row in seen] == list(IMAGES.values())
    assert [row["cls"] for row in seen] == [label_of(name) for name in IMAGES]
    assert seen[0]["json"] == f'{{"a": {label_of("000.png")}}}'


def test_what_is_done_is_not_read(tmp_path: Path):
    done = np.array([True, False, True, True, False])
    for form in (as_tables, as_tars):
        seen = rows(found(form(tmp_path / form.__name__, IMAGES)), done)
        assert [row["row"] % SHARD_ROWS for row in seen] == [1, 4, 1, 4]


def test_a_damaged_row_group_is_a_fault_of_each_of_its_rows(tmp_path: Path):
    file = as_tables(tmp_path, IMAGES, shards=1) / "train-00000-of-00001.parquet"
    shards = found(tmp_path)
    data = bytearray(file.read_bytes())
    data[8:40] = b"\xff" * 32  # in the first column chunk
    file.write_bytes(data)
    seen = rows(shards)
    assert len(seen) == 10
    faults = [row["row"] for row in seen if row["fault"]]
    assert faults
    assert set(faults) < set(range(10))
    assert all("can't be read" in str(row["fault"]) for row in seen if row["fault"])


def test_a_tar_that_ends_too_soon_is_a_row_more(tmp_path: Path):
    file = as_tars(tmp_path, IMAGES, shards=1) / "000000.tar"
    file.write_bytes(file.read_bytes()[: 8 * 1024 + 100])
    *sound, last = rows(found(tmp_path))
    assert sound
    assert not any(row["fault"] for row in sound)
    assert last["row"] == len(sound)
    assert "damaged" in str(last["fault"])
