"""The manifest's columns, its order, and reading what is no manifest."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.labels import Item, load_scheme
from rayapp.storage.store import LocalStore
from rayapp.storage.uris import split_uri

IMAGINET, CORVI = load_scheme("imaginet"), load_scheme("corvi")
ROW = {"id": "b", "path": "b", "origin": 1, "bytes": 1 << 40, "status": "ok", "error": ""}


def test_columns() -> None:
    schema = manifest.schema(IMAGINET, {"phash": pa.uint64()})
    labels = ["origin", "content", "generator", "model"]
    assert schema.names[:6] == ["id", "path", *labels]
    assert schema.names[-1] == "phash"
    assert set(schema.names) == {*manifest.COLUMNS, *labels, "phash"}
    assert manifest.schema().names == list(manifest.COLUMNS)


def test_rows_are_sorted_and_survive_the_file(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    rows = [ROW, {**ROW, "id": "ä"}, {**ROW, "id": "a", "status": "failed", "error": "corrupt"}]
    schema = manifest.schema(IMAGINET)
    table = manifest.from_rows(rows, schema)
    manifest.write_table(store, "manifest.parquet", table)
    for read in (
        manifest.read_table(store, "manifest.parquet"),
        manifest.read_table(*split_uri(store.uri("manifest.parquet"))),
    ):
        assert read.schema.equals(schema, check_metadata=True)
        assert read["id"].to_pylist() == ["a", "b", "ä"]
        assert read["bytes"].to_pylist() == [1 << 40] * 3
        assert read["model"].to_pylist() == [None] * 3
        assert manifest.scheme_name(read) == "imaginet"
        assert manifest.count_failed(read) == 1
    again = manifest.from_rows(rows[::-1], schema)
    assert again.equals(table)


def test_same_rows_same_bytes(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    rows = [{**ROW, "id": str(number)} for number in range(50)]
    for name, order in (("one", rows), ("two", rows[::-1])):
        manifest.write_table(store, name, manifest.from_rows(order, manifest.schema(IMAGINET)))
    assert store.get("one") == store.get("two")


def test_no_rows() -> None:
    table = manifest.from_rows([], manifest.schema(CORVI))
    assert table.num_rows == manifest.count_failed(table) == 0


def test_item_rows() -> None:
    items = [Item("a#1", "a", (1, 7)), Item("b", "b", (0,))]
    table = manifest.item_rows(items, CORVI)
    assert table.to_pylist() == [
        {"id": "a#1", "path": "a", "origin": 1, "generator": 7},
        {"id": "b", "path": "b", "origin": 0, "generator": None},
    ]
    assert manifest.scheme_name(table) == "corvi"
    assert manifest.scheme_name(pa.table({"id": ["a"]})) is None
    assert manifest.item_rows([], CORVI).num_rows == 0


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"text, not a table" * 9, b"PAR1" + bytes(50) + b"PAR1"]
)
def test_what_is_no_parquet_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "manifest.parquet"
    path.write_bytes(data)
    with pytest.raises(UserError, match="not a Parquet file") as caught:
        manifest.read_table(*split_uri(str(path)))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_cut_off_anywhere_is_named(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    manifest.write_table(store, "whole", manifest.from_rows([ROW], manifest.schema(IMAGINET)))
    whole = store.get("whole")
    for cut in range(0, len(whole), len(whole) // 30):
        store.put("part", whole[:cut])
        with pytest.raises(UserError, match="not a Parquet file"):
            manifest.read_table(store, "part")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.parquet: no such file"):
        manifest.read_table(*split_uri(str(tmp_path / "absent.parquet")))


def test_tables_of_several_versions_are_one_table_or_are_named(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    store.put("t/_manifest", b"{}")
    manifest.write_table(store, "t/a.parquet", pa.table({"id": ["b"], "new": [1]}))
    manifest.write_table(store, "t/b.parquet", pa.table({"id": ["a"]}))
    rows = manifest.read_table(store, "t.parquet").to_pylist()
    assert rows == [{"id": "a", "new": None}, {"id": "b", "new": 1}]
    manifest.write_table(store, "t/b.parquet", pa.table({"id": ["a"], "new": ["text"]}))
    with pytest.raises(UserError, match=f"{tmp_path}/t: .* do not fit together .*new") as refusal:
        manifest.read_table(store, "t.parquet")
    assert "\n" not in str(refusal.value)


def test_no_table_is_read_through_a_dataset() -> None:
    rooms = (Path(__file__).parents[2] / "rayapp").rglob("*.py")
    assert not [str(path) for path in rooms if "pq.read_table(" in path.read_text()]


_READ_AND_END = """
import sys
from rayapp.dataset import manifest
table = manifest.parse_table(open(sys.argv[1], "rb").read())
assert table.num_columns == 200
"""


@pytest.mark.slow
def test_a_process_that_ends_after_a_read_ends_well(tmp_path: Path) -> None:
    """Read through a dataset, nearly all of these were aborted by Arrow."""
    table = pa.table({str(n): list(range(40)) for n in range(200)})
    manifest.write_table(LocalStore(str(tmp_path)), "wide", table)
    for _ in range(40):
        command = [sys.executable, "-c", _READ_AND_END, str(tmp_path / "wide")]
        subprocess.run(command, check=True, timeout=60)
