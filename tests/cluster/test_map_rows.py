"""Rows over Ray Data: counts, failures as rows, resuming, and no trace of how it was cut."""

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from rayapp.cluster import map_rows as rows
from rayapp.cluster import rows_on_ray, session
from rayapp.cluster.session import on_demand
from rayapp.config.errors import JobFailed, UserError
from rayapp.config.settings import JobSettings
from rayapp.dataset import manifest
from rayapp.dataset.images import ImageError
from rayapp.run import record
from rayapp.run.row_parts import drop_parts
from rayapp.run.row_work import Row, each, format_error

SCHEMA = manifest.schema(None, {"square": pa.int64()})


def table(count: int) -> pa.Table:
    """Rows whose order is not that of their ids."""
    ids = [f"{(number * 37) % count:03}" for number in range(count)]
    paths = [f"{name}.png" for name in ids]
    return pa.table({"id": pa.array(ids, pa.string()), "path": pa.array(paths, pa.string())})


class Squares:
    """Squares the id; every tenth row fails; what it works on is written down."""

    def __init__(self, journal: Path, trouble: str = "") -> None:
        self.journal, self.trouble = journal, trouble

    def setup(self) -> None:
        if self.trouble == "wrong use":
            raise UserError("no such detector")
        if self.trouble == "broken":
            raise RuntimeError("the card\nis gone")
        self.ready = True

    def batch(self, batch: Sequence[Row]) -> list[Row]:
        assert self.ready
        if self.trouble == "batch" and any(row["id"] == "020" for row in batch):
            raise RuntimeError("the card\nis full")
        if self.trouble == "crash" and any(row["id"] == "020" for row in batch):
            os._exit(1)
        if self.trouble == "always crash":
            os._exit(1)
        if self.trouble == "lost":
            batch = batch[:-1]
        for row in batch:
            with self.journal.open("a") as file:
                file.write(f"{row['id']}\n")
        return each(batch, self.one)

    @staticmethod
    def one(row: Row) -> Row:
        number = int(row["id"])
        if number % 10 == 7:
            raise ImageError("corrupt or\ntruncated")
        return {"square": number**2}


def begun(folder: Path) -> record.Run:
    job = JobSettings(output=str(folder / "out"))
    return record.start("square", job, {}, output=job.output, overwrite=False)


def mapped(
    folder: Path, count: int = 40, trouble: str = "", batch_size: int = 7, gpus: float = 0.0
) -> pa.Table:
    work = Squares(folder / "journal", trouble)
    run, each = begun(folder), rows.Resources(gpus=gpus)
    found = rows.map_rows(
        table(count), work, SCHEMA, run=run, batch_size=batch_size, resources=each
    )
    return found.table()


def expected(count: int) -> pa.Table:
    return manifest.from_rows(each(table(count).to_pylist(), Squares.one), SCHEMA)


def journal(folder: Path) -> list[str]:
    return sorted((folder / "journal").read_text().split())


# --- without Ray --------------------------------------------------------------------------------


def test_a_failed_row_fails_alone() -> None:
    found = each([{"id": "3"}, {"id": "7"}, {"id": "x"}, {"id": "5"}], Squares.one)
    assert [(row["status"], row["error"], row.get("square")) for row in found] == [
        ("ok", "", 9),
        ("failed", "corrupt or truncated", None),
        ("failed", "ValueError: invalid literal for int() with base 10: 'x'", None),
        ("ok", "", 25),
    ]


def test_errors_are_said_in_one_line() -> None:
    assert format_error(ImageError("empty file")) == "empty file"
    assert format_error(UserError("a\nb")) == "a b"
    assert format_error(MemoryError()) == "MemoryError: MemoryError"
    assert format_error(OSError(28, "No space left")) == "OSError: [Errno 28] No space left"


def worker(tmp_path: Path, trouble: str) -> rows_on_ray._Worker:
    return rows_on_ray._Worker(Squares(tmp_path / "journal", trouble), SCHEMA, batch_size=8)


def test_a_batch_that_breaks_is_done_row_by_row(tmp_path: Path) -> None:
    result = worker(tmp_path, "batch")(table(30)).sort_by("id").to_pylist()
    assert result[20]["error"] == "RuntimeError: the card is full"
    assert [row["id"] for row in result if row["status"] == "failed"] == [
        "007",
        "017",
        "020",
        "027",
    ]
    assert worker(tmp_path, "")(table(30)).sort_by("id").equals(expected(30))


def test_a_batch_that_loses_a_row_is_done_row_by_row(tmp_path: Path) -> None:
    result = worker(tmp_path, "lost")(table(3)).to_pylist()
    assert {row["error"] for row in result} == {"RuntimeError: 1 rows went in, 0 came out"}


@pytest.mark.parametrize(
    ("trouble", "status", "error"),
    [
        ("wrong use", "wrong use", "no such detector"),
        ("broken", "broken", "RuntimeError: the card is gone"),
    ],
)
def test_a_worker_that_cannot_start_says_so_with_its_rows(
    tmp_path: Path, trouble: str, status: str, error: str
) -> None:
    result = worker(tmp_path, trouble)(table(3)).to_pylist()
    assert {(row["status"], row["error"]) for row in result} == {(status, error)}
    assert status in rows_on_ray._BROKEN


@pytest.mark.parametrize(
    ("num_rows", "batch_size", "workers", "block"),
    [(40, 7, 2, 7), (100_000, 64, 2, 256), (100_000, 7, 2, 252), (2_000, 4, 2, 12), (5, 64, 8, 64)],
)
def test_a_block_is_whole_batches(num_rows: int, batch_size: int, workers: int, block: int) -> None:
    assert rows_on_ray._block_rows(num_rows, batch_size, workers, 256) == block


# --- in this process ------------------------------------------------------------------------------


@pytest.fixture
def no_ray_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Ray that other tests share may be open, which else counts as asking for it."""
    monkeypatch.setattr(session, "_own", True)


@pytest.mark.usefixtures("no_ray_asked_for")
def test_few_rows_are_done_in_this_process(tmp_path: Path) -> None:
    with on_demand(JobSettings(output=str(tmp_path / "out"))):
        assert mapped(tmp_path).equals(expected(40))
        assert journal(tmp_path) == expected(40)["id"].to_pylist()
        # Once cut off, on Ray: this process would die of a row that kills it, again and again.
        assert not rows.in_process(begun(tmp_path), 40)


@pytest.mark.usefixtures("no_ray_asked_for")
@pytest.mark.parametrize(("trouble", "error"), [("wrong use", UserError), ("broken", JobFailed)])
def test_work_that_cannot_start_in_this_process_says_so(
    tmp_path: Path, trouble: str, error: type[Exception]
) -> None:
    with (
        on_demand(JobSettings(output=str(tmp_path / "out"))),
        pytest.raises(error, match=r"^square: "),
    ):
        mapped(tmp_path, trouble=trouble)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.usefixtures("no_ray_asked_for")
def test_what_asks_for_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, settings = begun(tmp_path), JobSettings(output=str(tmp_path / "out"))
    with on_demand(settings):
        assert rows.in_process(run, rows.SMALL)
        assert not rows.in_process(run, rows.SMALL + 1)
        assert not rows.in_process(run, 1, rows.Resources(gpus=1))
        assert not rows.in_process(run, 1, rows.Resources(max_workers=2))
        monkeypatch.setenv("RAY_ADDRESS", "auto")
        assert not rows.in_process(run, 1)
        monkeypatch.delenv("RAY_ADDRESS")
    with on_demand(settings.model_copy(update={"on_ray": True})):
        assert not rows.in_process(run, 1)
    assert not rows.in_process(run, 1)  # whoever calls has a session open


# --- with Ray -----------------------------------------------------------------------------------


@pytest.mark.ray
def test_counts_failures_and_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = mapped(tmp_path)
    assert result["id"].to_pylist() == [f"{number:03}" for number in range(40)]
    assert result.schema.names == SCHEMA.names
    assert manifest.count_failed(result) == 4
    for row in result.to_pylist():
        failed = row["id"].endswith("7")
        assert row["status"] == ("failed" if failed else "ok")
        assert row["error"] == ("corrupt or truncated" if failed else "")
        assert row["square"] == (None if failed else int(row["id"]) ** 2)
        assert row["path"] == f"{row['id']}.png"
    assert journal(tmp_path) == result["id"].to_pylist()
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "square: 0 of 40 images"
    assert shown[-1].startswith("square: 40 of 40 images, ")
    assert shown[-1].endswith(", 4 failed")
    assert all(line.startswith("square: ") for line in shown)  # Ray is silent

    again = mapped(tmp_path)  # only what failed is done twice, and nothing is different
    assert again.equals(result)
    assert len(journal(tmp_path)) == 44

    run = begun(tmp_path)
    assert [found.key for found in run.store.list("parts/")] != []
    drop_parts(run.store)
    assert [found.key for found in run.store.list()] == ["started.json"]


@pytest.mark.ray
def test_resumes_after_parts_were_written(tmp_path: Path) -> None:
    mapped(tmp_path, count=20)
    assert len(list((tmp_path / "out/parts/square").glob("*.parquet"))) >= 1
    assert len(journal(tmp_path)) == 20
    result = mapped(tmp_path, count=40, batch_size=1)
    # Each row once in two runs, but for the two that had failed.
    assert journal(tmp_path) == sorted([*result["id"].to_pylist(), "007", "017"])
    assert result.equals(expected(40))  # however it was cut


@pytest.mark.ray
def test_work_that_cannot_start_ends_the_stage_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        mapped(tmp_path, trouble="wrong use")
    assert str(caught.value) == "square: no such detector"
    assert not (tmp_path / "out/parts").exists()


@pytest.mark.drill
@pytest.mark.usefixtures("ray_session")
def test_a_row_that_kills_its_worker_fails_alone(tmp_path: Path) -> None:
    result = mapped(tmp_path, trouble="crash").to_pylist()
    killed = "the worker's process died on it (crashed, or out of memory)"
    assert [row["id"] for row in result if row["error"] == killed] == ["020"]
    assert sum(row["status"] == "ok" for row in result) == 35


@pytest.mark.drill
@pytest.mark.usefixtures("ray_session")
def test_workers_that_always_die_end_the_stage(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="square: the workers die on every batch"):
        mapped(tmp_path, trouble="always crash")


@pytest.mark.ray
def test_workers_that_hold_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mapped(tmp_path, gpus=1.0).equals(expected(40))
    assert all(line.startswith("square: ") for line in capsys.readouterr().err.splitlines())


@pytest.mark.ray
def test_what_can_never_run_is_refused(tmp_path: Path) -> None:
    work, many = Squares(tmp_path / "journal"), rows.Resources(cpus=64)
    with pytest.raises(UserError, match="square asks for 64 CPU; this cluster has at most 2 CPU"):
        rows.map_rows(table(3), work, SCHEMA, run=begun(tmp_path), batch_size=1, resources=many)
