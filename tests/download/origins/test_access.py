"""S3 as a source and as a target, on a real server: faults 45, 46 and 47 where they can arise."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

import rayapp.storage.s3
from rayapp.download.fetch_task import Worker
from rayapp.download.origins.access import Access, CloudReader, S3Reader
from rayapp.download.origins.faults import Action, Fault
from rayapp.download.origins.governor import LocalGate
from rayapp.download.origins.reader import Traffic
from rayapp.download.wanted import STATE
from rayapp.storage.uris import open_store
from tests.doubles.clouds import Cloud
from tests.doubles.front import front_of
from tests.doubles.s3 import S3
from tests.doubles.server import Reply, Request, Server, files_handler
from tests.download.helpers import FAST, SCHEME, Run, catalogue, jpeg, make_zip, photos, statuses

pytestmark = pytest.mark.drill  # a server process of its own


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with S3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def front(environment: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A proxy that a test may let fail, with the AWS environment pointing to it."""
    with front_of(environment.url) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        rayapp.storage.s3._client_of.cache_clear()
        yield running
    rayapp.storage.s3._client_of.cache_clear()


@pytest.fixture
def environment(s3: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    rayapp.storage.s3._client_of.cache_clear()
    return s3


def test_reads_ranges_and_sees_a_replacement(environment: S3) -> None:
    client = boto3.client("s3", **environment.client_options)
    client.put_object(Bucket="test", Key="a.bin", Body=bytes(range(256)) * 10)
    reader = S3Reader("test", "a.bin", LocalGate(), FAST, Traffic())
    assert reader.read(250, 12) == (bytes(range(256)) * 2)[250:262]
    assert b"".join(reader.stream()) == bytes(range(256)) * 10
    client.put_object(Bucket="test", Key="a.bin", Body=bytes(2560))
    with pytest.raises(Fault, match="replaced") as caught:
        reader.read(0, 5)
    assert caught.value.action is Action.CHANGED
    with pytest.raises(Fault) as caught:
        S3Reader("test", "none", LocalGate(), FAST, Traffic()).pin()
    assert caught.value.action is Action.FAIL


def test_an_archive_on_s3_into_a_prefix_on_s3(environment: S3, tmp_path: Path) -> None:
    client = boto3.client("s3", **environment.client_options)
    everything = photos(60)
    client.put_object(Bucket="test", Key="src/a.zip", Body=make_zip(everything))
    names = list(everything)[::4]
    book = catalogue({"at": ["s3://test/src/a.zip"]})
    run = Run("s3://test/out", book, names, tmp_path)
    assert set(statuses(run.run()).values()) == {""}
    keys = {s.key for s in run.store.list() if not s.key.startswith(STATE)}
    assert keys == set(names)
    assert all(run.store.get(name) == everything[name] for name in names)
    before = run.access.traffic.num_bytes
    assert set(statuses(run.run()).values()) == {""}
    assert run.access.traffic.num_bytes == before


def test_a_cloud_is_read_by_ranges_and_sees_a_replacement(cloud: Cloud) -> None:
    store = open_store(f"{cloud.scheme}://test/in #1?")
    store.put("a.bin", bytes(range(256)) * 10)
    reader = CloudReader(store.uri("a.bin"), LocalGate(), FAST, Traffic())
    assert reader.read(250, 12) == (bytes(range(256)) * 2)[250:262]
    assert b"".join(reader.stream()) == bytes(range(256)) * 10
    store.put("a.bin", bytes(2560))
    with pytest.raises(Fault, match="replaced") as caught:
        reader.read(0, 5)
    assert caught.value.action is Action.CHANGED
    for gone in (f"{store.root}/none", f"{cloud.scheme}://there-is-none/a"):
        with pytest.raises(Fault, match="no such") as caught:
            CloudReader(gone, LocalGate(), FAST, Traffic()).pin()
        assert caught.value.action is Action.FAIL


def test_an_archive_in_a_cloud_into_a_prefix_there(cloud: Cloud, tmp_path: Path) -> None:
    everything = photos(60)
    open_store(f"{cloud.scheme}://test/src").put("a.zip", make_zip(everything))
    names = list(everything)[::4]
    book = catalogue({"at": [f"{cloud.scheme}://test/src/a.zip"]})
    run = Run(f"{cloud.scheme}://test/out", book, names, tmp_path)
    assert set(statuses(run.run()).values()) == {""}
    assert all(run.store.get(name) == everything[name] for name in names)
    before = run.access.traffic.num_bytes
    assert set(statuses(run.run()).values()) == {""}
    assert run.access.traffic.num_bytes == before


def test_45_two_writers_of_one_key_leave_one_whole_object(environment: S3, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    run = Run("s3://test/race", catalogue({"at": ["x"]}), [], tmp_path)
    contents = [jpeg(n) for n in range(16)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda c: run.store.put("k.jpg", c), contents))
        won = list(threads.map(lambda c: run.store.put("once.jpg", c, if_absent=True), contents))
    assert run.store.get("k.jpg") in contents
    assert won.count(True) == 1


def test_46_refused_credentials_stop_the_task(
    environment: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = photos(10)
    with Server(files_handler({"/a.zip": make_zip(everything)})) as server:
        book = catalogue({"at": [f"{server.url}/a.zip"]})
        run = Run("s3://test/refused", book, everything, tmp_path)
        plan = run.plan()
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "expired")
        rayapp.storage.s3._client_of.cache_clear()
        worker = Worker(run.store, run.access, SCHEME, book.sources, 2)
        (done,) = worker.run(plan.tasks[0])
    assert re.search("secret key is wrong|denied", done.fatal)
    assert done.num_done == 0


def test_46_an_archive_that_the_key_may_not_read(environment: S3, tmp_path: Path) -> None:
    """Of the source it is a miss with its reason, not the end of the run."""
    run = Run(tmp_path / "r", catalogue({"at": ["s3://no-such-bucket/a.zip"]}), ["x.jpg"], tmp_path)
    with pytest.raises(Fault, match=r"s3://no-such-bucket/a\.zip: "):
        run.access.reader("s3://no-such-bucket/a.zip").pin()


REFUSED = {
    "45 409": Reply(409, {}, b"<Error><Code>ConditionalRequestConflict</Code></Error>"),
    "45 aborted": Reply(409, {}, b"<Error><Code>OperationAborted</Code></Error>"),
    "20 SlowDown": Reply(503, {}, b"<Error><Code>SlowDown</Code></Error>"),
    "20 500": Reply(500, {}, b"<Error><Code>InternalError</Code></Error>"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_45_a_put_that_meets_another_is_repeated(front: Server, name: str) -> None:
    store = open_store(f"s3://test/{name.replace(' ', '-')}")
    faults = iter([REFUSED[name]] * 2)
    forward = front.handler
    front.handler = lambda q: (q.method == "PUT" and next(faults, None)) or forward(q)
    assert store.put("a.jpg", b"content", if_absent=name.startswith("45"))
    assert store.get("a.jpg") == b"content"


def test_02_20_reads_of_s3_that_break_off_are_repeated(front: Server, environment: S3) -> None:
    data = bytes(range(256)) * 40
    boto3.client("s3", **environment.client_options).put_object(
        Bucket="test", Key="broken.bin", Body=data
    )
    reader = S3Reader("test", "broken.bin", LocalGate(), FAST, Traffic())
    reader.pin()
    changes = iter([REFUSED["20 SlowDown"], "cut", "cut"])

    def script(request: Request, number: int, right: Reply) -> Reply:
        change = next(changes, right)
        return dataclasses.replace(right, cut_at=100) if change == "cut" else change

    front.script = script
    assert reader.read(100, 5000) == data[100:5100]
    assert next(changes, None) is None  # all three faults came


def test_45_a_key_that_is_there_is_left_alone(front: Server) -> None:
    store = open_store("s3://test/412")
    assert store.put("a.jpg", b"one", if_absent=True)
    assert not store.put("a.jpg", b"two", if_absent=True)  # 412
    assert store.get("a.jpg") == b"one"
    assert sum(q.method == "PUT" for q in front.requests) == 2


def test_47_bytes_that_change_on_the_way_are_refused_and_sent_again(front: Server) -> None:
    """The server itself finds the flipped byte by the checksum that came with the put."""
    store = open_store("s3://test/47")
    spoil = iter([b"c0ntent", b"cont3nt"])
    forward = front.handler

    def flipping(request: Request) -> Reply:
        if request.method == "PUT":
            request = dataclasses.replace(request, body=next(spoil, request.body))
        reply = forward(request)
        answers.append((request.method, reply.status, bytes(reply.body)))
        return reply

    answers: list[tuple[str, int, bytes]] = []
    front.handler = flipping
    store.put("a.jpg", b"content")
    assert [status for method, status, _ in answers if method == "PUT"] == [400, 400, 200], answers
    assert store.get("a.jpg") == b"content"


def test_47_bytes_that_change_for_ever_are_no_object(front: Server) -> None:
    store = open_store("s3://test/47-ever")
    forward = front.handler
    front.handler = lambda q: forward(
        dataclasses.replace(q, body=b"c0ntent") if q.method == "PUT" else q
    )
    with pytest.raises(OSError, match=r"Digest|SHA256|Checksum"):
        store.put("a.jpg", b"content")
    assert store.stat("a.jpg") is None


def test_unknown_schemes_are_named() -> None:
    with pytest.raises(Fault, match="ftp"):
        Access(catalogue({"at": ["x"]})).reader("ftp://h/x")
