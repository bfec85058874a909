"""The folder of scores is a data set for those that others read tables with."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from rayapp.jobs.predict import predict
from rayapp.predict.settings import PredictSettings
from rayapp.storage.arrow_files import arrow_files
from rayapp.storage.uris import open_store
from tests.jobs.test_predict import picture
from tests.sets import as_tables, label_of

pytestmark = pytest.mark.ray
IMAGES = {f"{at:03}.png": picture(at, 20, 24) for at in range(40)} | {"040.png": b"no image"}
TOLD = "id, logit, status, label, row"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores in several parts, with a label that went along."""
    folder = tmp_path_factory.mktemp("readers")
    own = folder / "own.py"
    own.write_text("def predict(images):\n    return [float(i.mean()) / 255 for i in images]\n")
    images = as_tables(folder / "data", IMAGES, shards=3)
    settings = PredictSettings(
        detector=str(own), input=str(images), output=str(folder / "out"), stream=True, gallery=0
    )
    predict(settings)
    assert len(list((folder / "out/scores").glob("*.parquet"))) > 1
    return folder / "out"


@pytest.fixture(scope="module")
def wanted(folder: Path) -> list[tuple[object, ...]]:
    """Rows as the one table has them, beside what the parts alone have."""
    table = pq.ParquetFile(folder / "scores.parquet").read()
    assert table["id"].to_pylist() == sorted(table["id"].to_pylist())
    rows = table.select(["id", "logit", "status"]).to_pylist()
    labels = [label_of(row["id"].rpartition("_")[2].rpartition("/")[2]) for row in rows]
    return [(*row.values(), label) for row, label in zip(rows, labels, strict=True)]


def check(found: pa.Table, wanted: list[tuple[object, ...]]) -> None:
    """Every row once, each column of its type, whoever read them."""
    found = found.sort_by("id")
    assert [tuple(row.values()) for row in found.select(TOLD.split(", ")[:4]).to_pylist()] == wanted
    assert pc.count_distinct(found["row"]).as_py() == found.num_rows == len(IMAGES)
    assert found["logit"].null_count == 1


def test_pyarrow_reads_it(folder: Path, wanted: list[tuple[object, ...]]) -> None:
    check(pyarrow.dataset.dataset(folder / "scores").to_table(), wanted)
    files = arrow_files(open_store(str(folder)))
    check(pyarrow.dataset.dataset("scores", filesystem=files).to_table(), wanted)


def test_duckdb_reads_it(folder: Path, wanted: list[tuple[object, ...]]) -> None:
    import duckdb

    with duckdb.connect() as database:
        parts = f"read_parquet('{folder}/scores/*.parquet')"
        check(database.sql(f"select {TOLD} from {parts}").to_arrow_table(), wanted)
        counted = database.sql(f"select status, count(*) from {parts} group by 1 order by 1")
        assert counted.fetchall() == [("failed", 1), ("ok", 40)]


def test_datasets_reads_it(
    folder: Path, wanted: list[tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    found = datasets.load_dataset(str(folder / "scores"), split="train", cache_dir=str(tmp_path))
    check(found.with_format("arrow")[:], wanted)
    rows = datasets.load_dataset(
        "parquet", data_files=f"{folder}/scores/*.parquet", split="train", streaming=True
    )
    assert sum(row["status"] == "ok" for row in rows) == 40
