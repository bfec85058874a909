"""A source planned and fetched without Ray: what ends up where, and what is asked again.

Faults 20, 31, 32, 33, 43, 44, 48, 50, 51, 52 and 55; the 16-fault mixture.
"""

from __future__ import annotations

import errno
import gzip
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from rayapp.download import ledger
from rayapp.download.fetch_task import Worker
from rayapp.download.handover import save_point
from rayapp.download.wanted import STATE
from rayapp.storage.store import LocalStore
from tests.doubles.server import Reply, Request, Server, files_handler, serve_range
from tests.download.archives.test_streams import make_tar
from tests.download.helpers import SCHEME, Run, catalogue, jpeg, make_zip, photos, statuses

PHOTOS = photos(300)
NAMES = list(PHOTOS)[::3]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(files_handler({"/a.zip": make_zip(PHOTOS)})) as running:
        yield running


@pytest.fixture
def run(server: Server, tmp_path: Path) -> Run:
    return Run(tmp_path / "root", catalogue({"at": [f"{server.url}/a.zip"]}), NAMES, tmp_path)


def files_under(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file() and STATE not in p.parts
    }


def test_fetches_what_is_wanted_and_nothing_else(run: Run, server: Server, tmp_path: Path) -> None:
    rows = run.run()
    assert files_under(tmp_path / "root") == {name: PHOTOS[name] for name in NAMES}
    row = rows[NAMES[0]]
    assert all(row[name] for name in ("sha256", "crc32", "etag"))
    assert (row["width"], row["height"], row["format"]) == (24, 24, "JPEG")
    assert row["origin_uri"] == f"{server.url}/a.zip"
    assert (row["route"], row["licence"], row["status"]) == ("range", "L", "ok")
    assert row["archive_etag"] == '"v1"'


def test_the_same_again_asks_nothing_but_the_pin(run: Run, server: Server) -> None:
    run.run()
    server.reset_counters()
    run.run()
    assert server.bytes_sent == 0


def test_52_a_file_under_the_right_name_is_not_trusted(run: Run, server: Server) -> None:
    run.run()
    run.store.put(NAMES[0], b"x" * len(PHOTOS[NAMES[0]]))  # same size, other bytes
    run.store.put(NAMES[1], PHOTOS[NAMES[1]])  # rewritten, right
    run.store.delete([NAMES[2]])
    server.reset_counters()
    rows = run.run()
    assert set(statuses(rows).values()) == {""}
    assert run.store.get(NAMES[0]) == PHOTOS[NAMES[0]]
    # two images, a byte of a probe; the directory is known from the first run
    assert server.bytes_sent < 2 * (24 * 24 * 3 + 400) + 1 + 66_000


def test_a_file_that_was_there_before_is_adopted_if_it_is_right(run: Run, server: Server) -> None:
    for name in NAMES[:50]:
        run.store.put(name, PHOTOS[name])
    run.store.put(NAMES[50], PHOTOS[NAMES[51]])
    rows = run.run()
    assert [rows[name]["route"] for name in NAMES[:50]] == ["present"] * 50
    assert set(statuses(rows).values()) == {""}
    assert run.store.get(NAMES[50]) == PHOTOS[NAMES[50]]
    assert all(row["sha256"] for row in rows.values())


def test_51_a_damaged_or_lost_ledger_costs_no_bytes(run: Run, server: Server) -> None:
    run.run()
    for number, stat in enumerate(list(run.store.list(f"{STATE}/ledger/"))):
        if number % 2:
            run.store.put(stat.key, b"garbage")
        else:
            run.store.delete([stat.key])
    server.reset_counters()
    assert set(statuses(run.run()).values()) == {""}
    assert server.bytes_sent <= 70_000  # what finds the directory; no image is fetched again


def test_32_a_missing_member_is_named_and_others_go_on(server: Server, tmp_path: Path) -> None:
    book = catalogue({"at": [f"{server.url}/a.zip"]})
    run = Run(tmp_path / "r", book, [*NAMES, "train2017/none.jpg"], tmp_path)
    reasons = statuses(run.run())
    assert reasons.pop("train2017/none.jpg") == "no such member in the archive"
    assert set(reasons.values()) == {""}


def test_31_damage_at_the_origin_is_named(tmp_path: Path) -> None:
    data = bytearray(make_zip(PHOTOS))
    data[data.index(PHOTOS[NAMES[4]]) + 30] ^= 1
    with Server(files_handler({"/a.zip": bytes(data)})) as server:
        run = Run(tmp_path / "r", catalogue({"at": [f"{server.url}/a.zip"]}), NAMES, tmp_path)
        reasons = statuses(run.run())
        assert "CRC-32" in reasons.pop(NAMES[4])
        assert set(reasons.values()) == {""}
        assert run.store.stat(NAMES[4]) is None


def test_16_an_archive_replaced_between_index_and_read(run: Run, server: Server) -> None:
    other = make_zip(photos(310))

    plan = run.plan()
    server.script = lambda request, number, right: serve_range(other, request, '"v2"')
    worker = Worker(run.store, run.access, SCHEME, run.book.sources, 4)
    for task in plan.tasks:
        list(worker.run(task))
    reasons = statuses(ledger.best_rows(run.store, "it"))
    assert len(reasons) == len(NAMES)
    assert all("replaced" in reason for reason in reasons.values())
    assert set(statuses(run.run()).values()) == {""}  # the next run reads the new directory


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_43_44_a_target_that_takes_no_more_stops_the_task(
    run: Run, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    put = LocalStore.put

    def full(self: LocalStore, key: str, data: bytes, **options: bool) -> bool:
        if key.endswith(".jpg") and len(list(Path(self.root).rglob("*.jpg"))) >= 20:
            raise OSError(code, "the target is full")
        return put(self, key, data, **options)

    monkeypatch.setattr(LocalStore, "put", full)
    run.run()
    assert "the target is full" in run.fatal
    monkeypatch.undo()
    assert set(statuses(run.run()).values()) == {""}


def test_48_stale_partial_files_are_no_images(run: Run, tmp_path: Path) -> None:
    stale = tmp_path / "root" / "train2017" / ".123-abc.part"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"half")
    assert set(statuses(run.run()).values()) == {""}
    assert stale.read_bytes() == b"half"  # may be another's that is at work
    assert set(files_under(tmp_path / "root")) == {*NAMES, "train2017/.123-abc.part"}


def test_42_50_two_runs_at_once_converge(server: Server, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    book = catalogue({"at": [f"{server.url}/a.zip"]})
    runs = [Run(tmp_path / "root", book, NAMES, tmp_path) for _ in range(2)]
    plans = [run.plan() for run in runs]

    def work(pair):
        run, _ = pair
        worker = Worker(run.store, run.access, SCHEME, book.sources, 4)
        return [done for task in plans[1].tasks for done in worker.run(task)]

    with ThreadPoolExecutor(2) as threads:
        done = list(threads.map(work, zip(runs, plans, strict=True)))
    assert all(not d.fatal and not d.num_failed for part in done for d in part)
    assert files_under(tmp_path / "root") == {name: PHOTOS[name] for name in NAMES}
    rows = ledger.best_rows(runs[0].store, "it")
    assert len(rows) == len(NAMES)


def test_55_a_decompression_bomb_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**9)
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header
    bomb += struct.pack(">I", zlib.crc32(header)) + struct.pack(">I", 0) + b"IDAT\x35\xaf\x06\x1e"
    members = {"train2017/big.jpg": bomb, "train2017/ok.jpg": jpeg(1)}
    with Server(files_handler({"/a.zip": make_zip(members)})) as server:
        book = catalogue({"at": [f"{server.url}/a.zip"]})
        reasons = statuses(Run(tmp_path / "r", book, members, tmp_path).run())
    assert "pixels" in reasons["train2017/big.jpg"]
    assert reasons["train2017/ok.jpg"] == ""


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    members = {"train2017/a.jpg": b"hello", "train2017/b.jpg": jpeg(1)}
    with Server(files_handler({"/a.zip": make_zip(members)})) as server:
        book = catalogue({"at": [f"{server.url}/a.zip"]})
        reasons = statuses(Run(tmp_path / "r", book, members, tmp_path).run())
    assert "not an image" in reasons["train2017/a.jpg"]
    assert reasons["train2017/b.jpg"] == ""


def test_07_a_zip_without_ranges(server: Server, run: Run) -> None:
    data = make_zip(PHOTOS)
    server.script = lambda request, number, right: Reply(200, {}, data)
    rows = run.run()
    assert set(statuses(rows).values()) == {""}
    assert {row["route"] for row in rows.values()} == {"stream"}


def test_a_dense_archive_is_read_in_few_requests(server: Server, tmp_path: Path) -> None:
    book = catalogue({"at": [f"{server.url}/a.zip"]}, http={"gap_bytes": 0})
    sparse = Run(tmp_path / "s", book, list(PHOTOS)[::5], tmp_path)
    sparse.run()
    many = len(server.requests)
    server.reset_counters()
    dense = [name for n, name in enumerate(PHOTOS) if n % 3]
    assert set(statuses(Run(tmp_path / "d", book, dense, tmp_path).run()).values()) == {""}
    assert many > 60
    assert len(server.requests) < 12


def test_33_an_archive_in_the_archive(tmp_path: Path) -> None:
    members = {f"train2017/{n}.jpg": jpeg(n) for n in range(40)}
    outer = make_zip({"patched2019.tar.gz": gzip.compress(make_tar(members))})
    with Server(files_handler({"/a.zip": outer})) as server:
        book = catalogue({"at": [f"{server.url}/a.zip"]})
        run = Run(tmp_path / "r", book, list(members)[:30], tmp_path)
        assert set(statuses(run.run()).values()) == {""}


def test_38_a_cut_tgz_names_the_rest(tmp_path: Path) -> None:
    members = {f"train2017/{n}.jpg": jpeg(n) for n in range(80)}
    data = gzip.compress(make_tar(members))
    with Server(files_handler({"/a.tgz": data[: len(data) // 2]})) as server:
        book = catalogue({"at": [f"{server.url}/a.tgz"]})
        reasons = statuses(Run(tmp_path / "r", book, members, tmp_path).run())
    assert len(reasons) == 80
    good = [path for path, reason in reasons.items() if not reason]
    assert 20 < len(good) < 60
    assert all("cut" in reason for reason in reasons.values() if reason)


def test_41_killed_at_a_resume_point_nothing_before_it_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As SIGKILL: nobody tidies up."""

    def save_and_die(*given: Any) -> None:
        save_point(*given)
        raise Killed

    members = {f"train2017/{n:03}.jpg": jpeg(n % 50) for n in range(300)}
    monkeypatch.setattr("rayapp.download.archives.streams._SAVE_EVERY_BYTES", 100_000)
    archive = gzip.compress(make_tar(members))
    with Server(files_handler({"/a.tgz": archive})) as server:
        run = Run(tmp_path / "r", catalogue({"at": [f"{server.url}/a.tgz"]}), members, tmp_path)
        for _ in range(2):
            with monkeypatch.context() as killing:
                killing.setattr("rayapp.download.fetch_task.save_point", save_and_die)
                with pytest.raises(Killed):
                    run.run()
        found = statuses(run.run())
    assert found == dict.fromkeys(members, "")


def test_a_local_folder_and_a_local_archive(tmp_path: Path) -> None:
    for name in NAMES[:10]:
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PHOTOS[name])
    folder = catalogue({"at": [f"{tmp_path}/mine/{{name}}"], "form": "files"})
    reasons = statuses(Run(tmp_path / "r1", folder, NAMES[:11], tmp_path).run())
    assert "No such file" in reasons.pop(NAMES[10])
    assert set(reasons.values()) == {""}
    (tmp_path / "a.zip").write_bytes(make_zip(PHOTOS))
    archive = catalogue({"at": [f"{tmp_path}/a.zip"]})
    assert set(statuses(Run(tmp_path / "r2", archive, NAMES, tmp_path).run()).values()) == {""}


def test_lists_are_checked_by_git_hash(tmp_path: Path) -> None:
    right = "git:b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"  # of the bytes "hello"
    files = {"annotations/a.txt": right, "annotations/b.txt": "git:" + "0" * 40}
    served = {f"/{name}": b"hello" for name in files}
    with Server(files_handler(served)) as server:
        entry = {"at": [f"{server.url}/{{name}}"], "form": "files", "kind": "annotations"}
        book = catalogue({**entry, "files": files, "paths": {}})
        run = Run(tmp_path / "r", book, [], tmp_path)
        reasons = statuses(run.run())
    assert reasons["annotations/a.txt"] == ""
    assert "git" in reasons["annotations/b.txt"]
    assert run.store.get("annotations/a.txt") == b"hello"


FAULTS = [
    lambda q, r: Reply(reset=True),
    lambda q, r: _with(r, cut_at=len(r.body) // 2),
    lambda q, r: _with(r, chunked=True, cut_at=7),
    lambda q, r: _flip(r),
    lambda q, r: Reply(200, {"ETag": '"v1"'}, b"x" * 50_000),
    lambda q, r: _head(r, "Content-Range", "bytes 1-2/3000000"),
    lambda q, r: _with(r, body=r.body[: max(len(r.body) - 9, 0)]),
    lambda q, r: _with(r, body=bytes(r.body) + b"more"),
    lambda q, r: _head(r, "Content-Encoding", "gzip"),
    lambda q, r: Reply(408),
    lambda q, r: Reply(500),
    lambda q, r: Reply(502),
    lambda q, r: Reply(504),
    lambda q, r: Reply(429, {"Retry-After": "0"}),
    lambda q, r: Reply(503, {"Retry-After": "0"}, b"<Error><Code>SlowDown</Code></Error>"),
    lambda q, r: Reply.json(
        {"error": {"errors": [{"reason": "userRateLimitExceeded"}]}}, 403, **{"Retry-After": "0"}
    ),
]


def _with(reply: Reply, **fields: object) -> Reply:
    for name, value in fields.items():
        setattr(reply, name, value)
    return reply


def _head(reply: Reply, name: str, value: str) -> Reply:
    reply.headers[name] = value
    return reply


def _flip(reply: Reply) -> Reply:
    body = bytearray(reply.body)
    if body:
        body[len(body) // 2] ^= 1
    return _with(reply, body=bytes(body))


def mixture(share: float, seed: int):
    """A script in which each of the 16 faults strikes `share` of the requests."""
    rng = random.Random(seed)

    def script(request: Request, number: int, right: Reply) -> Reply:
        place = int(rng.random() / share)
        return FAULTS[place](request, right) if place < len(FAULTS) else right

    return script


@pytest.mark.parametrize(
    ("num_wanted", "share"), [(300, 0.02), pytest.param(5_000, 0.05, marks=pytest.mark.slow)]
)
def test_16_faults_at_once(tmp_path: Path, num_wanted: int, share: float) -> None:
    """After each run every image is right or named, after some runs all are right.

    At 5 % each, four of five requests meet a fault, and even the planning may find no way through;
    then all that is left is named. The command is given again until nothing is missing.
    """
    everything = photos(2 * num_wanted)
    names = list(everything)[::2]
    with Server(files_handler({"/a.zip": make_zip(everything)})) as server:
        book = catalogue({"at": [f"{server.url}/a.zip"]}, http={"gap_bytes": 0})
        run = Run(tmp_path / "root", book, names, tmp_path)
        run.plan()  # the directory is known
        server.script = mixture(share, 7)
        for _ in range(60):
            rows = run.run_or_name()
            got = files_under(tmp_path / "root")
            assert set(rows) == set(names)
            assert got == {n: everything[n] for n in names if rows[n]["status"] == "ok"}
            assert all(rows[name]["error"] for name in names if name not in got)
            if len(got) == len(names):
                break
    assert len(got) == len(names)


def test_ledger_parts_are_parquet(run: Run) -> None:
    run.run()
    keys = [stat.key for stat in run.store.list(f"{STATE}/ledger/")]
    assert all(pq.read_table(run.store.uri(key)).num_rows for key in keys)
