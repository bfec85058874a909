"""S3 as a source and as a target, on a real server: faults 45, 46 and 47 where they can arise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from rayapp.download.access import Access, S3Reader
from rayapp.download.faults import Action, Fault
from rayapp.download.governor import LocalGate
from rayapp.download.reader import Traffic
from rayapp.download.wanted import STATE
from tests.doubles.s3 import S3
from tests.doubles.server import Server, files_handler
from tests.download.helpers import FAST, Run, catalogue, jpeg, make_zip, photos, statuses

pytestmark = pytest.mark.drill  # a server process of its own


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with S3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def environment(s3: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    import rayapp.s3

    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    rayapp.s3._client_of.cache_clear()
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


def test_45_two_writers_of_one_key_leave_one_whole_object(environment: S3, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    run = Run("s3://test/race", catalogue({"at": ["x"]}), [], tmp_path)
    contents = [jpeg(n) for n in range(16)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda c: run.store.put("k.jpg", c), contents))
        won = list(threads.map(lambda c: run.store.put("once.jpg", c, if_absent=True), contents))
    assert run.store.get("k.jpg") in contents
    assert won.count(True) == 1


def test_46_refused_credentials_stop_the_run(
    environment: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = photos(10)
    with Server(files_handler({"/a.zip": make_zip(everything)})) as server:
        book = catalogue({"at": [f"{server.url}/a.zip"]})
        run = Run("s3://test/refused", book, everything, tmp_path)
        plan = run.plan()
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "expired")
        import rayapp.s3
        from rayapp.download.work import Worker
        from rayapp.errors import UserError
        from tests.download.helpers import SCHEME

        worker = Worker(run.store, run.access, SCHEME, book.sources, 2)
        rayapp.s3._client_of.cache_clear()
        with pytest.raises(UserError, match=r"secret key is wrong|denied"):
            list(worker.run(plan.tasks[0]))


def test_47_the_server_refuses_bytes_that_are_not_those_sent(environment: S3) -> None:
    client = boto3.client("s3", **environment.client_options)
    with pytest.raises(client.exceptions.ClientError, match=r"BadDigest|400"):
        client.put_object(Bucket="test", Key="d", Body=b"x", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==")
    listed = client.list_objects_v2(Bucket="test", Prefix="d")
    assert listed["KeyCount"] == 0


def test_unknown_schemes_are_named() -> None:
    with pytest.raises(Fault, match="ftp"):
        Access(catalogue({"at": ["x"]})).reader("ftp://h/x")
