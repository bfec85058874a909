"""Faults 1-28 of transport, ranges and status, against a real server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from rayapp.download.origins.faults import Action, Fault
from rayapp.download.origins.reader import Patience, Pin, Plain
from rayapp.download.origins.transport import HttpReader, new_pool
from tests.doubles.server import Reply, Request, Server, files_handler, serve_range
from tests.download.helpers import FAST, http

DATA = bytes(range(256)) * 400


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(files_handler({"/a": DATA})) as running:
        yield running


def faulty(change, times: int = 1, at: int = 1):
    """A script that changes the right reply of requests `at` … `at + times - 1`."""

    def script(request: Request, number: int, right: Reply) -> Reply:
        return change(right) if at <= number < at + times else right

    return script


def changed(**fields: object):
    def change(right: Reply) -> Reply:
        for name, value in fields.items():
            setattr(right, name, value)
        return right

    return change


def header(name: str, value: str):
    def change(right: Reply) -> Reply:
        right.headers[name] = value
        return right

    return change


def test_reads_exactly_what_is_asked(server: Server) -> None:
    reader = http(f"{server.url}/a")
    assert reader.pin() == Pin(len(DATA), '"v1"')
    assert reader.read(1000, 5000) == DATA[1000:6000]
    assert server.bytes_sent == 5001  # the probe's one byte and no more
    assert reader.traffic.num_bytes == 5001
    assert all(r.headers["accept-encoding"] == "identity" for r in server.requests)
    assert all(r.method == "GET" for r in server.requests)  # 14: HEAD is never sent
    assert not any(r.headers["range"].startswith("bytes=-") for r in server.requests)  # 13


RECOVERED = {
    "1 reset": changed(reset=True),
    "2 truncated": changed(cut_at=100),
    "2 stalled": changed(stall=True),
    "3 chunked and cut": changed(chunked=True, cut_at=100),
    "8 a 200 after a 206": lambda right: serve_range(DATA, Request("GET", "/a", {}, {})),
    "9 wrong start": header("Content-Range", f"bytes 7-2006/{len(DATA)}"),
    "10 a shorter range": lambda right: Reply(
        206, {"Content-Range": f"bytes 10-109/{len(DATA)}"}, DATA[10:110]
    ),
    "11 more bytes": lambda right: Reply(206, dict(right.headers), DATA[10:9000]),
    "15 gzip": header("Content-Encoding", "gzip"),
    "18 429": lambda right: Reply(429, {"Retry-After": "0"}),
    "18 429 without a time": lambda right: Reply(429),
    "20 500": lambda right: Reply(500),
    "20 502": lambda right: Reply(502),
    "20 503": lambda right: Reply(503, {}, b"<Error><Code>SlowDown</Code></Error>"),
    "20 504": lambda right: Reply(504),
    "23 rate": lambda right: Reply.json(
        {"error": {"errors": [{"reason": "userRateLimitExceeded"}]}}, 403
    ),
}


@pytest.mark.parametrize("name", RECOVERED)
def test_recovers(server: Server, name: str) -> None:
    reader = http(f"{server.url}/a", Patience(6, 0.001, 0.01, 2.0, 0.3))
    reader.pin()
    server.script = faulty(RECOVERED[name], times=1 if name[:2] in ("18", "20", "23") else 2)
    assert reader.read(10, 2000) == DATA[10:2010]
    assert len(server.requests) in (3, 4)  # the probe, one or two faults, the right answer


FAILS = {
    "27 missing": (lambda right: Reply(404), Action.FAIL, "404"),
    "12 416": (
        lambda right: Reply(416, {"Content-Range": "bytes */5"}),
        Action.CHANGED,
        "replaced",
    ),
    "16 another ETag": (
        lambda right: serve_range(DATA, Request("GET", "/a", {}, {}), '"v2"'),
        Action.CHANGED,
        "replaced",
    ),
    "16 another size": (
        header("Content-Range", "bytes 10-2009/999999"),
        Action.CHANGED,
        "size changed",
    ),
    "24 file quota": (
        lambda right: Reply.json({"error": {"errors": [{"reason": "downloadQuotaExceeded"}]}}, 403),
        Action.PARK,
        "downloadQuotaExceeded",
    ),
    "25 abusive": (
        lambda right: Reply.json(
            {"error": {"errors": [{"reason": "cannotDownloadAbusiveFile"}]}}, 403
        ),
        Action.FAIL,
        "cannotDownloadAbusiveFile",
    ),
    "26 forbidden": (lambda right: Reply(403), Action.FAIL, "403"),
    "28 page": (
        lambda right: Reply(200, {"Content-Type": "text/html"}, b"<html>sign in</html>"),
        Action.FAIL,
        "web page",
    ),
    "28 quota page": (
        lambda right: Reply(
            200, {"Content-Type": "text/html"}, b"<html>Google Drive - Quota exceeded</html>"
        ),
        Action.PARK,
        "quota",
    ),
    "28 virus page": (
        lambda right: Reply(200, {"Content-Type": "text/html"}, b"<html>virus scan</html>"),
        Action.FAIL,
        "virus",
    ),
}


@pytest.mark.parametrize("name", FAILS)
def test_does_not_retry_what_cannot_succeed(server: Server, name: str) -> None:
    change, action, words = FAILS[name]
    reader = http(f"{server.url}/a")
    reader.pin()
    server.script = faulty(change, times=99)
    with pytest.raises(Fault, match=words) as caught:
        reader.read(10, 2000)
    assert caught.value.action is action
    assert len(server.requests) == 2  # the probe, and one refusal


def test_07_a_server_without_ranges_is_streamed(server: Server) -> None:
    server.script = lambda request, number, right: Reply(200, {}, DATA)
    reader = http(f"{server.url}/a")
    with pytest.raises(Fault, match="ranges") as caught:
        reader.pin()
    assert caught.value.action is Action.STREAM
    assert b"".join(reader.stream()) == DATA


def test_07_a_broken_stream_starts_anew_and_skips(server: Server) -> None:
    def script(request: Request, number: int, right: Reply) -> Reply:
        return Reply(200, {}, DATA, cut_at=50_000 if number in (2, 3) else None)

    server.script = script
    assert b"".join(http(f"{server.url}/a").stream()) == DATA


def test_streams_by_bounded_ranges(server: Server) -> None:
    reader = http(f"{server.url}/a")
    server.script = faulty(changed(cut_at=9), times=1, at=2)
    assert b"".join(reader.stream()) == DATA
    assert all("-" in r.headers["range"].rstrip("-") for r in server.requests)


def test_gives_up_after_its_attempts(server: Server) -> None:
    reader = http(f"{server.url}/a")
    reader.pin()
    server.script = faulty(changed(reset=True), times=99)
    with pytest.raises(Fault) as caught:
        reader.read(0, 10)
    assert caught.value.action is Action.RETRY
    assert len(server.requests) == 1 + FAST.attempts


def test_01_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Fault) as caught:
        http(f"http://127.0.0.1:{port}/a").pin()
    assert caught.value.action is Action.RETRY


def test_01_a_drip_is_given_up() -> None:
    """A server that sends a byte now and then never times out by silence alone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(4096)
                    head = "HTTP/1.1 206 Partial\r\nContent-Length: 5000\r\n"
                    peer.sendall(f"{head}Content-Range: bytes 0-4999/5000\r\n\r\n".encode())
                    for _ in range(20):
                        time.sleep(0.05)
                        try:
                            peer.sendall(b"x")
                        except OSError:
                            break

        threading.Thread(target=drip, daemon=True).start()
        patience = Patience(2, 0.001, 0.01, 1.0, 0.2, min_bytes_per_s=50_000)
        port = listener.getsockname()[1]
        reader = HttpReader(
            "slow",
            Plain(f"http://127.0.0.1:{port}/a"),
            new_pool(1),
            patience=patience,
            num_bytes=5000,
        )
        with pytest.raises(Fault, match="slowly"):
            reader.read(0, 5000)


def test_05_a_name_that_does_not_resolve() -> None:
    with pytest.raises(Fault, match="cannot be resolved") as caught:
        http("http://no-such-host.invalid/a", Patience(2, 0.001, 0.01)).pin()
    assert caught.value.action is Action.RETRY


def test_06_a_tls_error_is_not_retried() -> None:
    """The peer answers a TLS greeting in plain text: an SSL error, at once and once."""
    greetings = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    greetings.append(peer.recv(4096))
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(Fault, match="SSL") as caught:
            http(f"https://127.0.0.1:{listener.getsockname()[1]}/a").pin()
    assert caught.value.action is Action.FAIL
    assert len(greetings) == 1


def test_12_an_empty_object(server: Server) -> None:
    server.handler = files_handler({"/a": b""})
    with pytest.raises(Fault) as caught:
        http(f"{server.url}/a").pin()
    assert caught.value.action is Action.CHANGED


def test_17_a_weak_validator_is_none(server: Server) -> None:
    server.script = lambda request, number, right: right.headers.update({"ETag": 'W/"x"'}) or right
    reader = http(f"{server.url}/a")
    assert reader.pin().etag == ""
    reader.read(0, 10)
    assert "if-range" not in server.requests[-1].headers


@pytest.mark.parametrize("status", [429, 500])
def test_18_an_origin_that_asks_for_a_pause_gets_it(
    server: Server, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = http(f"{server.url}/a")
    reader.pin()
    server.script = faulty(lambda right: Reply(status, {"Retry-After": "50"}))
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    assert reader.read(0, 10) == DATA[:10]
    (asked,) = [one for one in pauses if one > FAST.cap_s]  # no pause of its own is as long
    assert 40 < asked <= 50  # less what went by since the answer


def test_whole_file(server: Server) -> None:
    server.script = faulty(changed(cut_at=10), at=0)
    assert http(f"{server.url}/a").read_all() == DATA
    with pytest.raises(Fault, match="more than one file"):
        http(f"{server.url}/a").read_all(max_bytes=100)
