"""Stores that fail as stores do: what is asked of them comes right or is named."""

import dataclasses
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

import rayapp.storage.azure
import rayapp.storage.google
import rayapp.storage.s3
from rayapp.config.errors import UserError
from rayapp.dataset.images import sha256
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store
from tests.doubles.clouds import ACCOUNT_KEY, Azure, Google
from tests.doubles.front import front_of
from tests.doubles.s3 import S3
from tests.doubles.server import Reply, Request, Server

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]

THREADS = 16
SECRETS = ("tester-secret", ACCOUNT_KEY, ACCOUNT_KEY.rstrip("="))


class Front(NamedTuple):
    """A proxy before a server of its own, and what lies behind it."""

    server: Server
    root: str
    error: Callable[[str, int], Reply]  # how that server words an error


def xml_error(code: str, status: int) -> Reply:
    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    headers = {"Content-Type": "application/xml", "x-ms-error-code": code}
    return Reply(status, headers, text.encode())


def json_error(code: str, status: int) -> Reply:
    return Reply.json({"error": {"code": status, "message": code, "errors": []}}, status)


class Faults:
    """A script for the proxy: a share of the requests meets one of the faults, by a seed."""

    def __init__(self, front: Front, share: float, seed: int = 7) -> None:
        self._front, self._share, self._rng = front, share, random.Random(seed)
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
            return self._front.error("SlowDown", 503)
        if kind == "internal":
            return self._front.error("InternalError", 500)
        if kind == "reset":
            return Reply(reset=True)
        if kind == "cut off":
            return Reply(right.status, right.headers, right.body, cut_at=len(right.body) // 2)
        return Reply(right.status, right.headers, right.body, stall=True)


@pytest.fixture(params=["s3", "gs", "az"])
def front(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Front]:
    """A proxy before a server of its own; the client gives up on silence after a second."""
    kind, module = {
        "s3": (S3, rayapp.storage.s3),
        "gs": (Google, rayapp.storage.google),
        "az": (Azure, rayapp.storage.azure),
    }[request.param]
    monkeypatch.setattr(module, "SILENCE_S", 1.0)
    with kind(tmp_path) as behind, front_of(behind.url) as server:
        if isinstance(behind, S3):
            environment = {**behind.environment, "AWS_ENDPOINT_URL": server.url}
        else:
            environment = behind.environment_at(server.url)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        module._client_of.cache_clear()
        error = json_error if request.param == "gs" else xml_error
        yield Front(server, f"{request.param}://test/objects", error)
    module._client_of.cache_clear()


only_s3 = pytest.mark.parametrize("front", ["s3"], indirect=True)
only_google = pytest.mark.parametrize("front", ["gs"], indirect=True)
only_azure = pytest.mark.parametrize("front", ["az"], indirect=True)


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


def check(front: Front, count: int, share: float) -> Faults:
    store = open_store(front.root)
    front.server.script = faults = Faults(front, share)
    with ThreadPoolExecutor(THREADS) as pool:
        said = dict(enumerate(pool.map(lambda number: put_and_get(store, number), range(count))))
    front.server.script = None
    named = {number: text for number, text in said.items() if text}
    assert len(named) <= count / 1_000  # eight attempts each at such a share
    assert all(f"{front.root}/" in text for text in named.values())
    listed = {stat.key: stat.size for stat in store.list()}
    right = {f"{n % 97:02}/{n:06}": len(content(n)) for n in range(count) if n not in named}
    assert right.items() <= listed.items()
    return faults


@pytest.mark.parametrize(
    "front", [pytest.param("s3", marks=pytest.mark.first), "gs", "az"], indirect=True
)
def test_all_objects_come_right_or_are_named(front: Front) -> None:
    faults = check(front, 600, 0.08)
    assert set(faults.met) == {"slow down", "internal", "reset", "cut off", "stall"}


@pytest.mark.slow
@only_s3
def test_ten_thousand_objects_come_right_or_are_named(front: Front) -> None:
    faults = check(front, 10_000, 0.03)
    assert sum(faults.met.values()) > 1_000


@pytest.mark.slow
@pytest.mark.parametrize("front", ["gs", "az"], indirect=True)
def test_two_thousand_objects_come_right_or_are_named(front: Front) -> None:
    faults = check(front, 2_000, 0.08)
    assert sum(faults.met.values()) > 500


def refused(front: Front, code: str, status: int, said: str) -> None:
    """An answer that no retry mends is said in one line, by every operation."""
    store = open_store(front.root)
    store.put("before", b"1")
    forward = front.server.handler
    front.server.handler = lambda request: front.error(code, status)
    count = len(front.server.requests)
    for ask in (
        lambda: store.put("a", b"1"),
        lambda: store.get("before"),
        lambda: list(store.list()),
        lambda: store.delete(["before"]),
    ):
        with pytest.raises(UserError, match=said) as told:
            ask()
        assert front.root in str(told.value)
        assert "\n" not in str(told.value)
        assert not any(secret in str(told.value) for secret in SECRETS)
    assert len(front.server.requests) - count <= 8  # no eight attempts of each
    front.server.handler = forward
    assert store.get("before") == b"1"
    assert store.stat("a") is None


@only_s3
@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("ExpiredToken", 400, "the credentials have expired"),
        ("RequestTimeTooSkewed", 403, "the clock of this machine is wrong"),
        ("InvalidAccessKeyId", 403, "the access key is not known there"),
        ("AccessDenied", 403, "access denied"),
    ],
)
def test_what_no_retry_mends_on_s3(front: Front, code: str, status: int, said: str) -> None:
    refused(front, code, status, said)


@only_google
@pytest.mark.parametrize(
    ("message", "status", "said"),
    [
        ("Invalid Credentials", 401, "no Google credentials"),  # the double's users have none
        ("a@b.iam does not have storage.objects.get access", 403, "Storage Object User .a@b.iam"),
    ],
)
def test_what_no_retry_mends_on_google(front: Front, message: str, status: int, said: str) -> None:
    refused(front, message, status, said)


@only_azure
@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("AuthenticationFailed", 403, "the key, token or clock of this machine is wrong"),
        ("AuthorizationPermissionMismatch", 403, "the role Storage Blob Data Contributor"),
        ("AuthorizationFailure", 403, "let its network rules take in this machine"),
        ("PublicAccessNotPermitted", 409, "access denied"),
    ],
)
def test_what_no_retry_mends_on_azure(front: Front, code: str, status: int, said: str) -> None:
    refused(front, code, status, said)


@pytest.mark.parametrize("front", ["gs", "az"], indirect=True)
@pytest.mark.parametrize("size", [5_000, 20 << 20])
def test_bytes_that_change_on_the_way_are_found_out(front: Front, size: int) -> None:
    """One request's body, then one answer's, loses a bit: it is sent, and asked for, again."""
    store, forward = open_store(front.root), front.server.handler
    data = random.Random(1).randbytes(size)
    damaged: list[str] = []

    def once(request: Request) -> Reply:
        going = "put" not in damaged and len(request.body) > 1_000
        if going:
            damaged.append("put")
            middle = len(request.body) // 2
            body = request.body[:middle] + bytes([request.body[middle] ^ 1])
            request = dataclasses.replace(request, body=body + request.body[middle + 1 :])
        reply = forward(request)
        if "get" not in damaged and request.method == "GET" and len(reply.body) > 1_000:
            damaged.append("get")
            reply.body = bytes([reply.body[0] ^ 1]) + bytes(reply.body[1:])
        return reply

    front.server.handler = once
    store.put("object", data)
    assert store.get("object") == data
    assert damaged == ["put", "get"]


@pytest.mark.slow
def test_a_put_that_never_arrives_leaves_nothing(front: Front) -> None:
    store = open_store(front.root)
    forward = front.server.handler
    front.server.handler = lambda request: Reply(reset=True)
    with pytest.raises(OSError, match=f"{front.root}/b"):
        store.put("b", b"12345")
    front.server.handler = forward
    assert store.stat("b") is None
