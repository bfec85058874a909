"""A store that fails as stores do: what is asked of it comes right or is named."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rayapp.config.errors import UserError
from rayapp.dataset.images import sha256
from rayapp.storage.s3 import _client_of
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store
from tests.doubles.s3 import S3, proxy
from tests.doubles.server import Reply, Request, Server

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]

THREADS = 16


def error(code: str, status: int) -> Reply:
    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return Reply(status, {"Content-Type": "application/xml"}, text.encode())


class Faults:
    """A script for the proxy: a share of the requests meets one of the faults, by a seed."""

    def __init__(self, share: float, seed: int = 7) -> None:
        self._share, self._rng = share, random.Random(seed)
        self.met: dict[str, int] = {}

    def __call__(self, request: Request, number: int, right: Reply) -> Reply:
        if self._rng.random() >= self._share:
            return right
        kinds = ["slow down", "internal", "reset"]
        if request.method == "GET" and len(right.body) > 1 and right.status in (200, 206):
            kinds += ["cut off", "stall"]
        kind = self._rng.choice(kinds)
        self.met[kind] = self.met.get(kind, 0) + 1
        if kind == "slow down":
            return error("SlowDown", 503)
        if kind == "internal":
            return error("InternalError", 500)
        if kind == "reset":
            return Reply(reset=True)
        if kind == "cut off":
            return Reply(right.status, right.headers, right.body, cut_at=len(right.body) // 2)
        return Reply(right.status, right.headers, right.body, stall=True)


@pytest.fixture
def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A proxy before a server of its own; the client gives up on silence after a second."""
    with S3(tmp_path) as s3, proxy(s3) as server:
        for name, value in {**s3.environment, "AWS_ENDPOINT_URL": server.url}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("rayapp.storage.s3._SILENCE_S", 1.0)
        _client_of.cache_clear()
        yield server
    _client_of.cache_clear()


def content(number: int) -> bytes:
    return random.Random(number).randbytes(200 + number % 2_000)


def put_and_get(store: Store, number: int) -> str:
    """'' where the object came back as it was put, else what was said."""
    key, data = f"{number % 97:02}/{number:06}", content(number)
    try:
        store.put(key, data)
        found = store.stat(key)
        assert found is not None
        assert found.size == len(data)
        assert sha256(store.get(key)) == sha256(data)
        assert store.get_range(key, 5, 40) == data[5:45]
    except OSError as fault:
        return str(fault)
    return ""


def check(front: Server, count: int, share: float) -> Faults:
    store = open_store("s3://test/objects")
    front.script = faults = Faults(share)
    with ThreadPoolExecutor(THREADS) as pool:
        said = dict(enumerate(pool.map(lambda number: put_and_get(store, number), range(count))))
    front.script = None
    named = {number: text for number, text in said.items() if text}
    assert len(named) <= count / 1_000  # eight attempts each at such a share
    assert all("s3://test/objects/" in text for text in named.values())
    listed = {stat.key: stat.size for stat in store.list()}
    right = {f"{n % 97:02}/{n:06}": len(content(n)) for n in range(count) if n not in named}
    assert right.items() <= listed.items()
    return faults


@pytest.mark.first
def test_all_objects_come_right_or_are_named(front: Server) -> None:
    faults = check(front, 600, 0.08)
    assert set(faults.met) == {"slow down", "internal", "reset", "cut off", "stall"}


@pytest.mark.slow
def test_ten_thousand_objects_come_right_or_are_named(front: Server) -> None:
    faults = check(front, 10_000, 0.03)
    assert sum(faults.met.values()) > 1_000


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("ExpiredToken", 400, "the credentials have expired"),
        ("RequestTimeTooSkewed", 403, "the clock of this machine is wrong"),
        ("InvalidAccessKeyId", 403, "the access key is not known there"),
        ("AccessDenied", 403, "access denied"),
    ],
)
def test_what_no_retry_mends_is_said_in_one_line(
    front: Server, code: str, status: int, said: str
) -> None:
    store = open_store("s3://test/objects")
    store.put("before", b"1")
    forward = front.handler
    front.handler = lambda request: error(code, status)
    count = len(front.requests)
    for ask in (
        lambda: store.put("a", b"1"),
        lambda: store.get("before"),
        lambda: list(store.list()),
        lambda: store.delete(["before"]),
    ):
        with pytest.raises(UserError, match=said) as told:
            ask()
        assert "s3://test/objects" in str(told.value)
        assert "\n" not in str(told.value)
        assert "tester-secret" not in str(told.value)
    assert len(front.requests) - count <= 8  # no eight attempts of each
    front.handler = forward
    assert store.get("before") == b"1"
    assert store.stat("a") is None


@pytest.mark.slow
def test_a_put_that_never_arrives_leaves_nothing(front: Server) -> None:
    store = open_store("s3://test/objects")
    forward = front.handler
    front.handler = lambda request: Reply(reset=True)
    with pytest.raises(OSError, match="s3://test/objects/b"):
        store.put("b", b"12345")
    front.handler = forward
    assert store.stat("b") is None
