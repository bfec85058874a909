"""Bytes of one remote object by bounded, verified, repeated HTTP range requests.

Every answer is held against what was asked: 206, the right Content-Range, the pinned size and
validator, the exact length, no content coding. HEAD is never sent (signed URLs forbid it), nor a
suffix range (some servers refuse it), nor an open-ended one (Drive counts every requested byte).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import urllib3
from urllib3.exceptions import HTTPError, NameResolutionError, SSLError
from urllib3.response import BaseHTTPResponse

from rayapp.download.origins.faults import Action, Fault, classify, may_pass, web_page
from rayapp.download.origins.governor import Gate, LocalGate
from rayapp.download.origins.reader import PATIENCE, STREAM_BYTES, Address, Patience, Pin, Traffic
from rayapp.run.concurrency import read_ahead

T = TypeVar("T")

_RECV_BYTES = 256 << 10
_MOST_RENEWALS = 2
_REDIRECTS_ONLY = urllib3.Retry(total=None, connect=0, read=0, redirect=5, status=0, other=0)


def new_pool(num_connections: int) -> urllib3.PoolManager:
    """A pool for `num_connections` threads; redirects are followed, retries are ours."""
    return urllib3.PoolManager(num_pools=16, maxsize=num_connections, block=False)


class HttpReader:
    """A `Reader` over HTTP(S).

    Args:
        name: what messages and quotas call the object.
        address: where it is.
        pool: connections, shared by the objects of a process.
        gate: the origin's quota governor.
        patience: retry policy.
        traffic: counters to add to.
        num_bytes: the size where another source (an API) told it, else it is asked.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        pool: urllib3.PoolManager,
        gate: Gate | None = None,
        patience: Patience = PATIENCE,
        traffic: Traffic | None = None,
        num_bytes: int | None = None,
    ):
        self.name = name
        self.traffic = traffic or Traffic()
        self._address = address
        self._pool = pool
        self._gate: Gate = gate or LocalGate()
        self._patience = patience
        self._timeout = urllib3.Timeout(connect=patience.connect_s, read=patience.silence_s)
        self._known = num_bytes
        self._pin: Pin | None = None
        self._lock = threading.Lock()

    def pin(self) -> Pin:
        """Size and validator, asked by a range of one byte once; Fault(STREAM) without ranges."""
        with self._lock:
            if self._pin is None:
                if self._known is not None:
                    self._pin = Pin(self._known, "")
                else:
                    self._pin = self._tried(self._probe)
            return self._pin

    def read(self, start: int, num_bytes: int) -> bytes:
        """Exactly `num_bytes` bytes from `start`; raises Fault when no retry helps."""
        pin = self.pin()
        if num_bytes == 0:
            return b""
        if start + num_bytes > pin.num_bytes:
            raise Fault(Action.CHANGED, f"{self.name}: shorter than its index says")
        return self._tried(lambda: self._range(start, num_bytes, pin))

    def read_all(self, max_bytes: int = 2 << 30) -> bytes:
        """The whole object in one request; its announced length must arrive."""
        return self._tried(lambda: self._whole(max_bytes))

    def stream(self) -> Iterator[bytes]:
        """The whole object in order: bounded ranges, one ahead; without ranges one long answer."""
        try:
            num_bytes = self.pin().num_bytes
        except Fault as fault:
            if fault.action is not Action.STREAM:
                raise
            yield from self._sequential()
            return
        spans = [
            (start, min(STREAM_BYTES, num_bytes - start))
            for start in range(0, num_bytes, STREAM_BYTES)
        ]
        with ThreadPoolExecutor(1) as threads:
            yield from read_ahead(threads, lambda span: self.read(*span), spans, depth=2)

    def _tried(self, once: Callable[[], T]) -> T:
        renewals = _Renewals()
        try:
            value = self._patience.call(once, renewals.again, _pause_s)
        except Fault as fault:
            raise renewals.last(fault) from None
        self._gate.served()
        return value

    def _request(self, headers: dict[str, str]) -> BaseHTTPResponse:
        self._gate.admit(self.name)
        address = self._address.current()
        self.traffic.add(1, 0)
        try:
            response = self._pool.request(
                "GET",
                address[0],
                headers={"Accept-Encoding": "identity", **address[1], **headers},
                timeout=self._timeout,
                retries=_REDIRECTS_ONLY,
                preload_content=False,
                decode_content=False,
            )
        except HTTPError as error:
            raise self._broken(error) from error
        if response.status in (200, 206):
            return response
        body = self._body(response, 1 << 16)
        fault = classify(response.status, response.headers, body, self.name)
        slower = response.status in (403, 429, 503) or fault.wait_s is not None
        parked = fault.action in (Action.PARK, Action.PARK_ORIGIN)
        if parked or (fault.action is Action.RETRY and slower):
            self._gate.report(self.name, fault)
        if fault.action is Action.RENEW:
            self._address.renew(address)
        raise fault

    def _broken(self, error: HTTPError) -> Fault:
        reason = getattr(error, "reason", None) or error
        note = f"{self.name}: {type(reason).__name__}: {reason}"
        if isinstance(reason, SSLError):
            return Fault(Action.FAIL, note)
        if isinstance(reason, NameResolutionError):
            note = f"{self.name}: the host name cannot be resolved"
        return Fault(Action.RETRY, note)

    def _probe(self) -> Pin:
        response = self._request({"Range": "bytes=0-0"})
        if response.status == 200:
            self._refuse_page(response)
            response.close()
            raise Fault(Action.STREAM, f"{self.name}: the server does not serve ranges")
        body = self._body(response, 1)
        total = self._check_range(response, 0, 1, None)
        if len(body) != 1:
            raise Fault(Action.RETRY, f"{self.name}: {len(body)} bytes came instead of 1")
        return Pin(total, strong_etag(response))

    def _range(self, start: int, num_bytes: int, pin: Pin) -> bytes:
        headers = {"Range": f"bytes={start}-{start + num_bytes - 1}"}
        if pin.etag:
            headers["If-Range"] = pin.etag
        response = self._request(headers)
        if response.status == 200:
            self._refuse_page(response)
            response.close()
            etag = strong_etag(response)
            if pin.etag and etag and etag != pin.etag:
                raise Fault(Action.CHANGED, f"{self.name}: replaced at the origin")
            raise Fault(Action.RETRY, f"{self.name}: the whole file came instead of a range")
        self._check_range(response, start, num_bytes, pin)
        body = self._body(response, num_bytes)
        if len(body) != num_bytes:
            note = f"{self.name}: {len(body)} bytes came instead of {num_bytes}"
            raise Fault(Action.RETRY, note)
        return body

    def _check_range(
        self, response: BaseHTTPResponse, start: int, num_bytes: int, pin: Pin | None
    ) -> int:
        """The object's size by Content-Range; a wrong range, size, validator or coding raises."""
        given = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", given)
        fault = None
        if response.headers.get("Content-Encoding", "identity") != "identity":
            fault = Fault(Action.RETRY, f"{self.name}: a compressed range came")
        elif not match or int(match[1]) != start or int(match[2]) != start + num_bytes - 1:
            fault = Fault(Action.RETRY, f"{self.name}: asked {start}+{num_bytes}, got '{given}'")
        elif pin and int(match[3]) != pin.num_bytes:
            fault = Fault(Action.CHANGED, f"{self.name}: its size changed at the origin")
        elif pin and pin.etag and strong_etag(response) not in ("", pin.etag):
            fault = Fault(Action.CHANGED, f"{self.name}: replaced at the origin")
        if fault:
            response.close()
            raise fault
        assert match
        return int(match[3])

    def _body(self, response: BaseHTTPResponse, max_bytes: int, *, strict: bool = True) -> bytes:
        """Up to `max_bytes` of the body; an answer that drips is given up (RETRY)."""
        pieces: list[bytes] = []
        have = 0
        deadline = time.monotonic() + self._patience.silence_s
        deadline += max_bytes / self._patience.min_bytes_per_s
        try:
            while have < max_bytes and (
                piece := response.read1(min(_RECV_BYTES, max_bytes - have))
            ):
                pieces.append(piece)
                have += len(piece)
                if time.monotonic() > deadline:
                    raise Fault(Action.RETRY, f"{self.name}: the answer came too slowly")
            over = strict and have == max_bytes and bool(response.read1(1))
        except (HTTPError, OSError) as error:
            if strict:
                raise Fault(Action.RETRY, f"{self.name}: the answer broke off: {error}") from error
            over = False
        finally:
            self.traffic.add(0, have)
            if response.length_remaining == 0:
                response.release_conn()
            else:
                response.close()
        if over:
            raise Fault(Action.RETRY, f"{self.name}: more bytes came than were asked")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _whole(self, max_bytes: int) -> bytes:
        response = self._request({})
        self._refuse_page(response)
        length = response.headers.get("Content-Length")
        limit = int(length) if length else max_bytes
        if limit > max_bytes:
            response.close()
            raise Fault(Action.FAIL, f"{self.name}: {limit} bytes are more than one file may have")
        body = self._body(response, limit)
        if length and len(body) != limit:
            raise Fault(Action.RETRY, f"{self.name}: {len(body)} bytes came instead of {limit}")
        fault = web_page({}, body, self.name)
        if fault:
            raise fault
        return body

    def _sequential(self) -> Iterator[bytes]:
        """One answer without ranges; when it breaks, it starts anew and skips what was had."""
        done = 0
        renewals = _Renewals()
        try:
            for attempt in self._patience.each(renewals.again, _pause_s):
                with attempt:
                    for piece in self._skipping(done):
                        done += len(piece)
                        yield piece
        except Fault as fault:
            raise renewals.last(fault) from None

    def _skipping(self, skip: int) -> Iterator[bytes]:
        response = self._request({})
        self._refuse_page(response)
        have = 0
        try:
            while piece := response.read1(_RECV_BYTES):
                self.traffic.add(0, len(piece))
                fresh = piece[max(skip - have, 0) :]
                have += len(piece)
                if fresh:
                    yield fresh
        except (HTTPError, OSError) as error:
            raise Fault(Action.RETRY, f"{self.name}: the answer broke off: {error}") from error
        finally:
            response.close()
        length = response.headers.get("Content-Length")
        if length and have != int(length):
            raise Fault(Action.RETRY, f"{self.name}: {have} bytes came instead of {length}")

    def _refuse_page(self, response: BaseHTTPResponse) -> None:
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            fault = web_page(
                response.headers, self._body(response, 1 << 16, strict=False), self.name
            )
            if fault:
                if fault.action is Action.PARK:
                    self._gate.report(self.name, fault)
                raise fault


class _Renewals:
    """Access that was refused is renewed, twice at most."""

    def __init__(self) -> None:
        self._num = 0

    def again(self, error: BaseException) -> bool:
        """Whether another attempt can mend what was raised."""
        if isinstance(error, Fault) and error.action is Action.RENEW:
            self._num += 1
            return self._num <= _MOST_RENEWALS
        return may_pass(error)

    def last(self, fault: Fault) -> Fault:
        """What the last attempt raised, in words that fit."""
        if fault.action is not Action.RENEW:
            return fault
        return Fault(Action.FAIL, f"{fault.reason}: refused again after renewing access")


def _pause_s(error: BaseException) -> float | None:
    """None where the gate does not make all wait, and the access was not renewed."""
    asked = isinstance(error, Fault) and error.wait_s is not None
    return 0.0 if asked or not may_pass(error) else None


def strong_etag(response: BaseHTTPResponse) -> str:
    """The answer's ETag where it is a strong validator, else ''."""
    etag: str = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else ""
