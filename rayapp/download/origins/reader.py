"""What a reader is, where an object is, how patiently it is asked: shared by all origins."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from rayapp.download.origins.faults import Action, Fault
from rayapp.storage.retry import Tries

STREAM_BYTES = 8 << 20


class Pin(NamedTuple):
    """What an object was when it was first asked: its size, and its strong validator or ''."""

    num_bytes: int
    etag: str


class Reader(Protocol):
    """Random access to one object of known size."""

    name: str

    def pin(self) -> Pin:
        """Size and validator; raises Fault(STREAM) when the server has no ranges."""

    def read(self, start: int, num_bytes: int) -> bytes:
        """Exactly `num_bytes` bytes from `start`; raises Fault."""

    def stream(self) -> Iterator[bytes]:
        """The whole object in order, in pieces."""


class Address(Protocol):
    """Where an object is, and the headers that open it; both may expire."""

    def current(self) -> tuple[str, dict[str, str]]:
        """URL and headers to use now."""

    def renew(self, stale: tuple[str, dict[str, str]]) -> None:
        """Replace what expired; raises Fault(FAIL) when there is nothing to renew."""


@dataclass(frozen=True)
class Plain:
    """An address that needs nothing and never expires."""

    url: str

    def current(self) -> tuple[str, dict[str, str]]:
        """The URL, no headers."""
        return self.url, {}

    def renew(self, stale: tuple[str, dict[str, str]]) -> None:
        """Nothing to renew."""
        raise Fault(Action.FAIL, f"{self.url}: access is refused")


@dataclass(frozen=True)
class Patience(Tries):
    """How long one request is tried: attempts and pauses, and an answer's times in seconds."""

    connect_s: float = 10.0
    silence_s: float = 30.0
    min_bytes_per_s: float = 2_000.0


PATIENCE = Patience()


@dataclass
class Traffic:
    """Counters of what moved, shared by the threads of a process."""

    num_requests: int = 0
    num_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, num_requests: int, num_bytes: int) -> None:
        """Count."""
        with self._lock:
            self.num_requests += num_requests
            self.num_bytes += num_bytes


def has_ranges(reader: Reader) -> bool:
    """Whether parts of the object can be read; raises Fault where it can't be asked."""
    try:
        reader.pin()
    except Fault as fault:
        if fault.action is Action.STREAM:
            return False
        raise
    return True
