"""A small real HTTP/1.1 server on loopback: ranges, scripted faults, counters.

It runs on its own asyncio loop in a thread (`with Server(handler) as server`), or in a process of
its own where a benchmark or a kill drill must not share the interpreter (`spawn`).
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from multiprocessing.connection import Connection
from socket import IPPROTO_TCP, SO_LINGER, SOL_SOCKET, TCP_NODELAY
from typing import Self
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    target: str = ""  # path and query as they came

    def span(self, size: int) -> tuple[int, int] | None:
        """The asked byte range as [start, stop), None without one; stop is cut at the size."""
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("range", ""))
        if not match or match[1] == match[2] == "":
            return None
        if match[1] == "":
            return max(size - int(match[2]), 0), size
        stop = int(match[2]) + 1 if match[2] else size
        return int(match[1]), min(stop, size)


@dataclass
class Reply:
    """What is sent, and what goes wrong while it is sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | memoryview = b""
    cut_at: int | None = None  # close after so many bytes of the body, its length announced in full
    chunked: bool = False  # chunked transfer; with cut_at the stream ends clean but short
    reset: bool = False  # RST instead of an answer
    stall: bool = False  # headers and half of the body, then silence

    @classmethod
    def json(cls, value: object, status: int = 200, **headers: str) -> Reply:
        return cls(
            status, {"Content-Type": "application/json", **headers}, json.dumps(value).encode()
        )


Handler = Callable[[Request], Reply]


def serve_range(
    data: bytes | memoryview, request: Request, etag: str = '"v1"', media: str = "application/zip"
) -> Reply:
    """The right answer to a GET with or without a Range, If-Range and If-Match honoured."""
    headers = {"Content-Type": media, "Accept-Ranges": "bytes"}
    if etag:
        headers["ETag"] = etag
    if request.headers.get("if-match", etag) != etag:
        return Reply(412, headers)
    span = request.span(len(data))
    if span is None or request.headers.get("if-range", etag) != etag:
        return Reply(200, headers, data)
    start, stop = span
    if start >= len(data) or start >= stop:
        return Reply(416, {**headers, "Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Reply(206, headers, memoryview(data)[start:stop])


class _Connection(asyncio.Protocol):
    def __init__(self, server: Server):
        self.server = server
        self.buffer = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
            headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
            stop = end + 4 + int(headers.get("content-length", "0"))
            if len(self.buffer) < stop:
                if (
                    headers.get("expect", "").lower() == "100-continue"
                    and len(self.buffer) == end + 4
                ):
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            method, target, _ = head.split(" ")
            url = urlsplit(target)
            query = {k: v[-1] for k, v in parse_qs(url.query).items()}
            body = self.buffer[end + 4 : stop]
            request = Request(method, url.path, query, headers, body, target)
            self.buffer = self.buffer[stop:]
            asyncio.get_running_loop().call_later(self.server.latency_s, self.answer, request)

    def answer(self, request: Request) -> None:
        if self.transport.is_closing():
            return
        reply = self.server.reply(request)
        if reply.reset:
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, linger)
            self.transport.abort()
            return
        body = b"" if request.method == "HEAD" else reply.body
        headers = dict(reply.headers)
        if reply.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers.setdefault("Content-Length", str(len(reply.body)))
        lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
        lines += [f"{key}: {value}" for key, value in headers.items()]
        self.transport.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        cut_at = len(body) // 2 if reply.stall else reply.cut_at
        sent = body if cut_at is None else body[:cut_at]
        self.server.bytes_sent += len(sent)
        if reply.chunked:
            self.transport.write(b"%x\r\n" % len(sent) + sent + b"\r\n" if sent else b"")
            self.transport.write(b"0\r\n\r\n")
        elif sent:
            self.transport.write(sent)
        if (reply.cut_at is not None and not reply.chunked) or headers.get("Connection") == "close":
            self.transport.close()


class Server:
    """Serve `handler` on a free port of 127.0.0.1 while the context is open.

    `script`, when set, sees (request, its number from 0, the right reply) and returns what is sent
    instead. Requests are kept in `requests`; `bytes_sent` counts body bytes only.
    """

    def __init__(self, handler: Handler, *, latency_s: float = 0.0, port: int = 0):
        self.handler = handler
        self.latency_s = latency_s
        self.port = port
        self.script: Callable[[Request, int, Reply], Reply] | None = None
        self.requests: list[Request] = []
        self.bytes_sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reply(self, request: Request) -> Reply:
        number = len(self.requests)
        self.requests.append(request)
        reply = self.handler(request)
        return self.script(request, number, reply) if self.script else reply

    def reset_counters(self) -> None:
        self.requests.clear()
        self.bytes_sent = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the test server did not start")
        return self

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        listen = self._loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port)
        self._server = self._loop.run_until_complete(listen)
        self.port = self._server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        self._loop.close()

    def __exit__(self, *_: object) -> None:
        def stop() -> None:
            self._server.close()
            self._loop.stop()

        self._loop.call_soon_threadsafe(stop)
        self._thread.join(10)


def files_handler(files: dict[str, bytes | memoryview], etag: str = '"v1"') -> Handler:
    """Serve each path of `files` with ranges, 404 for any other."""

    def handle(request: Request) -> Reply:
        data = files.get(request.path)
        return Reply(404) if data is None else serve_range(data, request, etag)

    return handle


class Spawned:
    """A server in its own process; `counters()` asks it for (requests, bytes sent)."""

    def __init__(self, make: Callable[..., Server], *args: object):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, args), daemon=True)
        self._process.start()
        if not self._pipe.poll(60):
            raise RuntimeError("the test server did not start")
        self.url: str = self._pipe.recv()

    def counters(self) -> tuple[int, int]:
        self._pipe.send("counters")
        counts: tuple[int, int] = self._pipe.recv()
        return counts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send("stop")
        self._process.join(10)


def _serve(pipe: Connection, make: Callable[..., Server], args: tuple[object, ...]) -> None:
    with make(*args) as server:
        pipe.send(server.url)
        while pipe.recv() == "counters":
            pipe.send((len(server.requests), server.bytes_sent))
