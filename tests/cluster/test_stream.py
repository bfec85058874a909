"""The engine of large sets: what is in flight, and what is held of a lost worker."""

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from rayapp.cluster import stream
from rayapp.cluster.map_rows import Resources
from rayapp.config.errors import UserError
from rayapp.dataset import manifest, shard_rows
from rayapp.dataset.inputs.input_shards import find_shards
from rayapp.run.dataset_folder import DatasetFolder
from rayapp.run.progress import Progress
from rayapp.run.row_work import Row, each
from rayapp.storage.store import LocalStore
from tests.sets import as_tables

pytestmark = pytest.mark.ray
FACTS = manifest.schema(None, {"made": pa.large_binary()})
MB = 1 << 20


@dataclass
class Work:
    """Takes a while over each image, gives as many bytes as asked for, refuses or dies of one."""

    journal: str
    takes_s: float = 0.0
    gives_bytes: int = 0
    deadly: str = ""
    refused: str = ""
    deaths: int = 0  # of workers, whatever they have: as when their node is lost

    def setup(self) -> None:
        """Nothing."""

    def batch(self, batch: Sequence[Row]) -> list[Row]:
        """What is done is written down, with the bytes that came in."""
        if noted(f"{self.journal}.deaths") < self.deaths:
            note(f"{self.journal}.deaths", 1)
            os._exit(1)
        note(f"{self.journal}.batches", len(batch))
        return each(batch, self.one)

    def one(self, row: Row) -> Row:
        if self.deadly and self.deadly in row["path"]:
            os._exit(1)
        if self.refused and self.refused in row["path"]:
            raise UserError("refused")
        time.sleep(self.takes_s)
        note(self.journal, len(row["data"] or b""))
        return {"made": os.urandom(self.gives_bytes)}


def note(journal: str, size: int) -> None:
    with open(journal, "a") as file:
        file.write(f"{size}\n")


class ReadStore(LocalStore):
    """Writes down what is read."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        data = super().get_range(key, start, length)
        note(f"{self.root}.read", len(data))
        return data


class SlowStore(LocalStore):
    """Takes its time to write a part."""

    def put(self, key: str, data: Any, *, if_absent: bool = False) -> bool:
        new = super().put(key, data, if_absent=if_absent)
        if key.endswith(".parquet") and "checkpoint" not in key:
            time.sleep(0.25)
        return new


def noted(journal: str) -> int:
    return sum(map(int, Path(journal).read_text().split())) if os.path.exists(journal) else 0


def streamed(images: Path, output: LocalStore, work: Work, batch_size: int = 4) -> pa.Table:
    from rayapp.cluster.stream import Stream

    shards = find_shards(str(images), None, None, 0)
    assert shards is not None
    object.__setattr__(shards, "holder", ReadStore(str(images)))
    schema = shard_rows.part_schema(FACTS, pa.schema([]))
    folder = DatasetFolder(output, "parts")
    folder.settle(schema)
    each_worker = Resources(1.0, 0.0, 1)
    stream = Stream("drill", shards, work, schema, folder, each_worker, batch_size)
    with Progress("drill", shards.num_rows or 0) as progress:
        stream.run(progress, 60)
    return pa.concat_tables(map(folder.read, folder.parts()))


@contextmanager
def watched(measure: Any) -> Iterator[list[float]]:
    """The largest of what is measured all the time; and what Ray spilled."""
    import ray

    session = Path(ray.nodes()[0]["RayletSocketName"]).parents[1]
    seen, over = [0.0, 0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            seen[0] = max(seen[0], measure())
            seen[1] += sum(one.is_file() for one in session.glob("ray_spilled_objects*/*"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def large_tables(folder: Path, count: int, size: int) -> Path:
    """Tables of noise, a row group each few images."""
    return as_tables(folder, {f"{at:03}.bin": os.urandom(size) for at in range(count)}, shards=8)


@pytest.mark.slow
def test_fast_readers_wait_for_slow_work(tmp_path: Path) -> None:
    """240 MB through a store of 200 MB, read far faster than worked on: some are in flight."""
    images = large_tables(tmp_path / "data", 80, 3 * MB)
    work = Work(str(tmp_path / "worked"), takes_s=0.05)
    read = f"{images}.read"
    with watched(lambda: noted(read) - noted(work.journal)) as seen:
        rows = streamed(images, LocalStore(str(tmp_path / "out")), work)
    assert rows.num_rows == len(set(rows["id"].to_pylist())) == 80
    assert 0 < seen[0] < 130 * MB
    assert not seen[1]


@pytest.mark.slow
def test_work_waits_for_a_slow_writer(tmp_path: Path) -> None:
    """200 MB come out of small images, faster than parts are written."""
    images = as_tables(tmp_path / "data", {f"{at:03}.bin": b"x" * 99 for at in range(200)}, 8)
    work, output = Work(str(tmp_path / "worked"), gives_bytes=MB), tmp_path / "out"

    def in_flight() -> int:
        written = sum(
            pq.read_metadata(part).num_rows for part in (output / "parts").glob("*.parquet")
        )
        return (noted(work.journal) // 99 - written) * MB

    with watched(in_flight) as seen:
        rows = streamed(images, SlowStore(str(output)), work)
    assert rows.num_rows == len(set(rows["id"].to_pylist())) == 200
    assert 0 < seen[0] < 130 * MB
    assert not seen[1]


class Kept(logging.Handler):
    """Keeps every record, as a ring of the last errors or a test's capture does."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.mark.timeout(120)
def test_kept_log_records_hold_no_actors(tmp_path: Path) -> None:
    """A worker is lost on the way: with its pool held, the next pass would wait for ever."""
    images = as_tables(tmp_path / "data", {f"{at:03}.bin": b"x" * 99 for at in range(40)}, 2)
    kept, loggers = Kept(), [logging.getLogger(name) for name in ("", "ray", "ray.data")]
    for logger in loggers:
        logger.addHandler(kept)
    try:
        work = Work(str(tmp_path / "worked"), deadly="007")
        rows = streamed(images, LocalStore(str(tmp_path / "out")), work)
    finally:
        for logger in loggers:
            logger.removeHandler(kept)
    failed = [row for row in rows.to_pylist() if row["status"] != "ok"]
    assert [("007" in row["id"], "process died" in row["error"]) for row in failed] == [
        (True, True)
    ]
    told = [record for record in kept.records if record.exc_text]
    assert told
    assert not any(record.exc_info for record in kept.records)


def test_rows_that_were_lost_with_their_workers_are_done_again_in_batches(tmp_path: Path) -> None:
    images = as_tables(tmp_path / "data", {f"{at:04}.bin": b"x" * 99 for at in range(2000)}, 2)
    output, journal = LocalStore(str(tmp_path / "out")), str(tmp_path / "worked")
    rows = streamed(images, output, Work(journal, deaths=3))  # once more than a block is tried
    assert rows.num_rows == len(set(rows["id"].to_pylist())) == 2000
    assert pc.all(pc.equal(rows["status"], "ok")).as_py()
    batches = Path(f"{journal}.batches").read_text().split()
    assert sum(map(int, batches)) == 2000
    assert batches.count("1") <= 2  # what is left over of a block


def test_a_row_that_is_left_alone_and_kills_its_worker_is_a_failed_row(tmp_path: Path) -> None:
    """All that is left of a set of many batches: no sign that workers die on every one."""
    images = as_tables(tmp_path / "data", {f"{at:03}.bin": b"x" * 99 for at in range(80)}, 2)
    output, journal = LocalStore(str(tmp_path / "out")), str(tmp_path / "worked")
    for work, why in (
        (Work(journal, refused="007"), "refused"),
        (Work(journal, deadly="007"), "process died"),
    ):
        rows = streamed(images, output, work)
        assert rows.num_rows == len(set(rows["id"].to_pylist())) == 80
        failed = rows.filter(pc.not_equal(rows["status"], "ok")).to_pylist()
        assert [("007" in row["id"], why in row["error"]) for row in failed] == [(True, True)]
    assert noted(journal) == 79 * 99  # no other row was worked on twice


@pytest.mark.parametrize("cpus", [1, 2, 16])
def test_writers_find_room_beside_readers_that_wait(cpus: int) -> None:
    """Where none is left, all stand until Ray Data's idle detector lets one block pass, each 10 s.

    A store that is full of what was read is emptied by writers alone.
    """
    taken = cpus * (stream._WORKER_CPUS + stream._READER_CPUS)
    writers = max(1, cpus // stream._WORKERS_A_WRITER)
    assert taken + writers * stream._WRITER_CPUS <= cpus + 1e-9
