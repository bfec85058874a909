"""Parts of a stage: written in any order, read back in id order, each id once."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.run import row_parts
from rayapp.run.row_parts import Parts
from rayapp.storage.uris import open_store

SCHEMA = pa.schema(
    {"id": pa.string(), "value": pa.int64(), "status": pa.string(), "error": pa.string()}
)


def rows(ids, value=0, status="ok"):
    columns = {"id": ids, "value": [value] * len(ids), "status": status, "error": ""}
    return pa.Table.from_pylist(
        [
            {k: v[at] if isinstance(v, list) else v for k, v in columns.items()}
            for at in range(len(ids))
        ],
        schema=SCHEMA,
    )


@given(
    names=st.lists(st.text("ab/é", min_size=1, max_size=5), unique=True, max_size=40),
    seed=st.integers(0, 99),
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=8),
)
def test_any_order_and_any_cut_are_read_back_in_id_order(tmp_path_factory, names, seed, cuts):
    store = open_store(tmp_path_factory.mktemp("parts"))
    kept = Parts(store, "a stage", SCHEMA)
    order = sorted(names, key=lambda name: hash((name, seed)))
    at, turn = 0, 0
    while at < len(order):
        size = cuts[turn % len(cuts)]
        kept.write([rows(order[at : at + size], value=turn)])
        at, turn = at + size, turn + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_parts, "_CHUNK_ROWS", 3)
        patch.setattr(row_parts, "_OPEN_PARTS", 2)
        chunks = list(kept.chunks())
        assert all(chunk.num_rows <= 3 for chunk in chunks)
    found = pa.concat_tables([SCHEMA.empty_table(), *chunks])
    assert found["id"].to_pylist() == sorted(names, key=lambda name: name.encode())
    assert found.equals(kept.table())
    again = Parts(store, "a stage", SCHEMA)
    again.resume()
    assert again.table().equals(found)


def test_resume_takes_sound_rows_once_and_the_rest_is_to_do(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first = Parts(store, "s", SCHEMA)
    first.write([rows(["a", "b"], value=1), rows(["c"], value=1, status="failed")])
    first.write([rows(["b", "d"], value=1)])  # b by two attempts
    first.write([rows(["e"], value=1)])
    assert (first.num_rows, first.num_failed) == (6, 1)

    kept = Parts(store, "s", SCHEMA)
    kept.resume(lambda table: table.filter(pc.not_equal(table["id"], "e")))
    assert sorted(kept.ids().to_pylist()) == ["a", "b", "d"]
    todo = kept.without(rows(["a", "b", "c", "d", "e", "f"]))
    assert todo["id"].to_pylist() == ["c", "e", "f"]
    kept.write([rows(["e", "c", "f"], value=2)])
    assert kept.table().select(["id", "value"]).to_pylist() == [
        {"id": name, "value": value}
        for name, value in zip("abcdef", (1, 1, 2, 1, 2, 2), strict=True)
    ]
    assert kept.num_failed == 0


def test_another_stage_s_parts_are_its_own(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    Parts(store, "sizes", SCHEMA).write([rows(["a"])])
    other = Parts(store, "perturb", SCHEMA)
    other.resume()
    assert other.num_rows == 0
    assert list(other.chunks()) == []
    row_parts.drop_parts(store)
    assert list(store.list()) == []


@pytest.mark.parametrize("uri", ["local", "s3", "google", "azure"])
def test_a_manifest_is_written_from_chunks(
    uri: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if uri != "local":
        scheme = {"s3": "s3", "google": "gs", "azure": "az"}[uri]
        uri = f"{scheme}://{request.getfixturevalue(uri).bucket}/{tmp_path.name}"
    store = open_store(tmp_path if uri == "local" else uri)
    whole = rows([f"{number:03}" for number in range(100)])
    manifest.write_chunks(store, "m.parquet", (whole.slice(a, 9) for a in range(0, 100, 9)), SCHEMA)
    assert manifest.read_table(store, "m.parquet").equals(whole)
    manifest.write_chunks(store, "none.parquet", iter(()), SCHEMA)
    assert manifest.read_table(store, "none.parquet").equals(SCHEMA.empty_table())

    def broken():
        yield whole
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        manifest.write_chunks(store, "broken.parquet", broken(), SCHEMA)
    assert [stat.key for stat in store.list()] == ["m.parquet", "none.parquet"]


@pytest.mark.parametrize(("gone", "more"), [("value", []), (None, ["old"])])
def test_parts_of_a_version_with_other_columns_are_named(
    tmp_path: Path, gone: str | None, more: list[str]
) -> None:
    store = open_store(tmp_path)
    first = Parts(store, "s", SCHEMA)
    first.write([rows(["a", "b"])])
    (key,) = [stat.key for stat in store.list("parts/")]
    table = manifest.read_table(store, key)
    for name in more:
        table = table.append_column(name, pa.nulls(2, pa.string()))
    manifest.write_table(store, key, table.drop_columns([gone] if gone else []))
    verb = "lacks" if gone else "has"
    said = f"{store.uri(key)}: another version.*{verb} the column '{gone or more[0]}'.*or remove"
    with pytest.raises(UserError, match=said) as refusal:
        Parts(store, "s", SCHEMA).resume()
    assert "\n" not in str(refusal.value)
    assert [stat.key for stat in store.list()] == [key]
    store.delete([stat.key for stat in store.list("parts/s/")])  # as the line says
    again = Parts(store, "s", SCHEMA)
    again.resume()
    assert again.num_rows == 0


def test_columns_in_another_order_are_the_same_rows(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    Parts(store, "s", SCHEMA).write([rows(["a"], value=4)])
    (key,) = [stat.key for stat in store.list("parts/")]
    manifest.write_table(store, key, manifest.read_table(store, key).select(SCHEMA.names[::-1]))
    again = Parts(store, "s", SCHEMA)
    again.resume()
    assert again.table().equals(rows(["a"], value=4))
