from pathlib import Path

import pyarrow as pa

from rayapp.config.settings import Settings
from rayapp.run import record
from rayapp.run.resume import nothing_left, outputs_there, sound_rows, unchanged
from rayapp.storage.store import LocalStore


def test_a_stage_is_skipped_where_it_is_done_and_no_row_may_do_better(tmp_path: Path) -> None:
    def started() -> record.Run:
        return record.start("pack", Settings(), {}, output=str(tmp_path), overwrite=False)

    run = started()
    assert not nothing_left(run)
    run.claim()
    run.finish({"failed": 1})
    again = started()
    assert nothing_left(again)
    assert not nothing_left(again, retry_failed=True)


def rows(**columns: list) -> pa.Table:
    return pa.table(columns)


def test_rows_that_failed_are_done_again() -> None:
    table = rows(id=["a", "b"], status=["ok", "failed"])
    assert sound_rows(table)["id"].to_pylist() == ["a"]
    assert sound_rows(table, lambda sound: sound.slice(1)).num_rows == 0


def test_rows_whose_file_changed_are_done_again() -> None:
    table = rows(id=["a", "b", "c"], etag=["1", "2", "3"], status=["ok", "ok", "failed"])
    listed = rows(id=["a", "b", "c"], etag=["1", "9", "3"])
    assert unchanged(table, listed)["id"].to_pylist() == ["a"]


def test_rows_whose_files_are_cut_or_gone_are_done_again(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    store.put("whole.webp", b"12345")
    store.put("cut.webp", b"1")
    names = ["whole.webp", "cut.webp", "gone.webp"]
    outputs = [[{"path": name, "bytes": 5}] for name in names]
    table = rows(id=names, status=["ok"] * 3, outputs=outputs)
    assert sound_rows(table, outputs_there(store))["id"].to_pylist() == ["whole.webp"]
