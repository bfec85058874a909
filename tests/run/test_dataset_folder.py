"""A folder of tables: settled after a kill, described, and read as one table of scores."""

import os
import signal
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from rayapp.config.errors import UserError
from rayapp.dataset import manifest, scores
from rayapp.run.dataset_folder import DatasetFolder, read_part
from rayapp.storage.uris import open_store

SCHEMA = scores.with_root(pa.schema([("row", pa.int64()), *scores.schema()]), "/images")


def put(
    folder: DatasetFolder, name: str, numbers: range, failed: Collection[int] = frozenset()
) -> None:
    rows = [
        {"row": n, "id": f"{n}.png", "path": f"{n}.png", "logit": n, "detector_hash": "d"}
        | {"status": "failed" if n in failed else "ok"}
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
    again.settle(SCHEMA)
    assert np.flatnonzero(again.done.of(0)).tolist() == [0, 1, 2]
    assert [stat.key for stat in again.parts()] == ["scores/part-a-000000-0.parquet"]


def with_failures(root: Path) -> DatasetFolder:
    """Parts with their checkpoints: no row of the first failed, some of the next, all of one."""
    folder = DatasetFolder(open_store(root), "scores")
    for at, (numbers, failed) in enumerate(
        [(range(3), ()), (range(3, 9), (4, 8)), (range(9, 11), (9, 10))]
    ):
        put(folder, f"part-a-{at:06}-0", numbers, failed)
        folder.store.put(f"{folder.checkpoint}/part-a-{at:06}.parquet", b"")
    folder.store.put("scores/_manifest", b"{}")
    return folder


def sound(folder: DatasetFolder) -> list[int]:
    return np.flatnonzero(folder.done.of(0)).tolist()


def files(root: Path) -> dict[str, bytes]:
    return {str(one.relative_to(root)): one.read_bytes() for one in root.rglob("*.*")}


def test_rows_that_failed_are_to_be_done_again(tmp_path: Path):
    with_failures(tmp_path)
    again = DatasetFolder(open_store(tmp_path), "scores")
    again.settle(SCHEMA)
    assert sound(again) == [0, 1, 2, 3, 5, 6, 7]
    tables = [again.read(part) for part in again.parts()]
    assert [table["row"].to_pylist() for table in tables] == [[0, 1, 2], [3, 5, 6, 7]]
    assert all(table.schema.equals(SCHEMA) for table in tables)
    assert all(table.schema.metadata == SCHEMA.metadata for table in tables)
    # What a checkpoint names is in a part; and nothing is whole before it is said so anew.
    assert [stat.key for stat in again.store.list("scores-checkpoint/")] == [
        "scores-checkpoint/part-a-000000.parquet"
    ]
    assert again.store.stat("scores/_manifest") is None
    before = files(tmp_path)
    DatasetFolder(again.store, "scores").settle(SCHEMA)
    assert files(tmp_path) == before


DYING = """
import os, signal, sys
from rayapp.run.dataset_folder import DatasetFolder
from rayapp.storage.store import LocalStore
from tests.run.test_dataset_folder import SCHEMA

class Dying(LocalStore):
    left = int(sys.argv[2])

    def count(self):
        Dying.left -= 1
        if not Dying.left:
            os.kill(os.getpid(), signal.SIGKILL)

    def put(self, *given, **named):
        self.count()
        return super().put(*given, **named)

    def delete(self, keys):
        self.count()
        super().delete(keys)

DatasetFolder(Dying(sys.argv[1]), "scores").settle(SCHEMA)
"""


@pytest.mark.parametrize("changes", [2, 3, 4])
def test_killed_while_it_forgets_the_next_run_does(tmp_path: Path, changes: int):
    with_failures(tmp_path)
    before = files(tmp_path)
    command = [sys.executable, "-c", DYING, str(tmp_path), str(changes)]
    path = os.pathsep.join(sys.path)
    killed = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert files(tmp_path) != before or changes == 2
    again = DatasetFolder(open_store(tmp_path), "scores")
    again.settle(SCHEMA)
    assert sound(again) == [0, 1, 2, 3, 5, 6, 7]
    assert again.done.repeated == 0
    assert len(list(again.store.list("scores-checkpoint/"))) == 1


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (SCHEMA.append(pa.field("new", pa.string())), "lacks the column 'new': go on with"),
        (SCHEMA.remove(SCHEMA.get_field_index("note")), "has the column 'note': go on with"),
        (
            SCHEMA.set(SCHEMA.get_field_index("note"), pa.field("note", pa.int64())),
            "has of another type the column 'note'",
        ),
        (pa.schema([("row", pa.int64())]), "has the columns 'id', .* and [0-9]+ more: go on with"),
    ],
)
def test_parts_with_other_columns_are_named_and_kept(
    tmp_path: Path, wanted: pa.Schema, said: str
) -> None:
    with_failures(tmp_path)
    before = files(tmp_path)
    with pytest.raises(UserError, match=said) as refusal:
        DatasetFolder(open_store(tmp_path), "scores").settle(wanted)
    assert str(refusal.value).startswith(f"{tmp_path}/scores/part-a-00000")
    assert f"or remove {tmp_path}/scores, whose rows are then done anew" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert files(tmp_path) == before
    assert (tmp_path / "scores/_manifest").exists()


def test_what_is_no_part_of_the_whole_goes(tmp_path: Path):
    folder = with_failures(tmp_path)
    parts = [read_part(folder.store, stat.key)[1] for stat in folder.parts()]
    folder.finish(parts[:2], {})
    assert [stat.key.rpartition("/")[2] for stat in folder.parts()] == [p.file for p in parts[:2]]
    assert not list(folder.store.list("scores-checkpoint/"))


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
