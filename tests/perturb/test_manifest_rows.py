import pyarrow as pa
import pytest

from rayapp.dataset import manifest
from rayapp.dataset.labels import load_scheme, parse_list
from rayapp.perturb.file_names import targets
from rayapp.perturb.manifest_rows import Tally, expand, manifest_schema, row_schema, write_lists
from rayapp.storage.uris import open_store

SCHEME = load_scheme("demo")
VARIANTS = ("small", "large")


def made(variant, name):
    return {
        "variant": variant,
        "path": f"{variant}/{name}",
        "sha256": "a",
        "pixel_sha256": "b",
        "bytes": 3,
        "width": 8,
        "height": 8,
        "plan": "[]",
    }


@pytest.fixture
def lists():
    return [parse_list("a.png,0,0,4,4\nb.png,1,0,1,1\nc.png,0,1,4,4\n", SCHEME, "x/test.txt")]


@pytest.fixture
def table(lists):
    (named,) = targets(lists, "clean")
    rows = [
        {
            "id": t.item.id,
            "path": t.source_path,
            "name": t.name,
            "status": "ok",
            "error": "",
            "height": 20,
            "width": 30,
            "outputs": [made(v, t.name) for v in VARIANTS],
            **dict(zip(SCHEME.columns, t.item.labels, strict=True)),
        }
        for t in named
    ]
    rows[1]["outputs"] = rows[1]["outputs"][:1]
    rows[2] |= {"status": "failed", "error": "empty file", "outputs": None}
    return pa.Table.from_pylist(rows, schema=row_schema(SCHEME))


def test_nothing_is_left_out(table):
    whole = expand(table, manifest_schema(SCHEME), VARIANTS)
    found = {(r["id"], r["status"]): r for r in whole.to_pylist()}
    assert set(found) == {
        ("a.png@large", "ok"),
        ("a.png@small", "ok"),
        ("b.png@small", "ok"),
        ("b.png@large", "skipped"),
        ("c.png", "failed"),
    }
    skipped = found["b.png@large", "skipped"]
    assert skipped["error"] == "the image of 20×30 px (height × width) is too small for large"
    assert skipped["sha256"] is None
    assert found["c.png", "failed"]["error"] == "empty file"
    assert found["a.png@small", "ok"]["width"] == 8
    assert manifest.scheme_name(whole) == "demo"
    assert [(r["source_id"], r["variant"]) for r in whole.to_pylist()] == [
        *(("a.png", v) for v in VARIANTS),
        *(("b.png", v) for v in VARIANTS),
        ("c.png", None),
    ]


def test_a_tally_is_the_same_however_the_rows_come(table):
    whole = expand(table, manifest_schema(SCHEME), VARIANTS)
    at_once, one_by_one = Tally(VARIANTS), Tally(VARIANTS)
    at_once.add(whole)
    for at in range(whole.num_rows):
        one_by_one.add(whole.slice(at, 1))
    assert vars(at_once) | {"_pixels": 0} == vars(one_by_one) | {"_pixels": 0}
    assert at_once.pixels_sha256 == one_by_one.pixels_sha256
    assert at_once.by_variant == {
        "small": {"ok": 2, "skipped": 0},
        "large": {"ok": 1, "skipped": 1},
    }
    assert at_once.by_status == {"ok": 3, "skipped": 1, "failed": 1}
    assert at_once.misses == ["c.png: empty file"]
    other = Tally(VARIANTS)
    other.add(
        whole.set_column(
            whole.schema.get_field_index("pixel_sha256"), "pixel_sha256", pa.array(["x"] * 5)
        )
    )
    assert other.pixels_sha256 != at_once.pixels_sha256


def test_lists_name_what_was_made_in_the_given_order(table, lists, tmp_path):
    store = open_store(tmp_path)
    tally = Tally(VARIANTS)
    tally.add(expand(table, manifest_schema(SCHEME), VARIANTS))
    keys = write_lists(store, tally.not_made, lists, targets(lists, "clean"), VARIANTS)
    assert keys == ["lists/small/test.txt", "lists/large/test.txt"]
    assert store.get(keys[0]).decode().splitlines() == [
        "small/testset/colour/real/00000.webp,0,0,4,4",
        "small/testset/colour/synthetic/nearestconvolution/00001.webp,1,0,1,1",
    ]
    assert store.get(keys[1]).decode() == "large/testset/colour/real/00000.webp,0,0,4,4\n"
