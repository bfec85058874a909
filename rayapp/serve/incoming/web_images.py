"""Images fetched by URL, from hosts that are allowed, and never from inside the network.

A name is resolved once, every address it has must be a public one, and the connection goes to that
very address: a name that answers otherwise a second time (DNS rebinding) changes nothing. No
redirect is followed, no proxy of the environment is used.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import urllib3

from rayapp.serve.refusals import bad_request

_PORTS = {"http": 80, "https": 443}
_AT_ONCE = 4  # each may be as large as a body, and counts as one only when it is there
_TIMEOUT_S = 10.0
_CHUNK = 1 << 16

Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


def is_public(address: str) -> bool:
    """Whether an address is one of the public Internet, in whatever form it hides another."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if inner is not None:
            return is_public(str(inner))
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class WebImages:
    """Fetches from allowed hosts alone.

    Args:
        hosts: names, lower case; `*.example.org` allows what is below it.
        resolve: addresses of a name.
        allowed: whether an address may be reached.
    """

    hosts: frozenset[str]
    resolve: Resolve = resolve
    allowed: Callable[[str], bool] = is_public

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        """The bytes at an address.

        Raises:
            Refused: see `check`.
            NotFetched: there are none, in words that say nothing of what is behind the address.
        """
        parts = self.check(url, "url")
        async with _slots():
            return await asyncio.to_thread(self._fetched, parts, max_bytes)

    def check(self, url: str, where: str) -> SplitResult:
        """The parts of an address that may be asked.

        Raises:
            Refused: 422, it may not.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise bad_request(f"{where}.url: not an address") from None
        host = (parts.hostname or "").rstrip(".")
        if parts.scheme not in _PORTS or not host or parts.username or parts.password:
            raise bad_request(f"{where}.url: a plain http:// or https:// address is wanted")
        if port not in (None, _PORTS[parts.scheme]):
            raise bad_request(f"{where}.url: only the usual port of {parts.scheme} is reached")
        if not _is_among(host, self.hosts):
            raise bad_request(f"{where}.url: its host is not among those that are allowed")
        if any(ord(one) <= 32 or ord(one) == 127 for one in url):
            raise bad_request(f"{where}.url: not an address")
        return parts

    def _fetched(self, parts: SplitResult, max_bytes: int) -> bytes:
        host, port = (parts.hostname or "").rstrip("."), _PORTS[parts.scheme]
        try:
            addresses = self.resolve(host, port)
        except (OSError, UnicodeError):
            addresses = []
        if not addresses or not all(self.allowed(one) for one in addresses):
            raise NotFetched("its host has no public address")
        try:
            return _read(parts, host, addresses[0], port, max_bytes)
        except NotFetched:
            raise
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise NotFetched(type(error).__name__) from None


class NotFetched(Exception):
    """An image that could not be had from its address."""

    def __init__(self, why: str) -> None:
        super().__init__(f"could not be fetched: {why}")


def _read(parts: SplitResult, host: str, address: str, port: int, max_bytes: int) -> bytes:
    """The answer of one address, asked by the name of its host."""
    timeout = urllib3.Timeout(connect=_TIMEOUT_S, read=_TIMEOUT_S)
    if parts.scheme == "https":
        pool: urllib3.HTTPConnectionPool = urllib3.HTTPSConnectionPool(
            address, port, timeout=timeout, assert_hostname=host, server_hostname=host
        )
    else:
        pool = urllib3.HTTPConnectionPool(address, port, timeout=timeout)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with pool:
        answer = pool.urlopen(
            "GET",
            path,
            headers={"Host": host, "Accept-Encoding": "identity"},
            redirect=False,
            retries=False,
            preload_content=False,
        )
        try:
            return _taken(answer, max_bytes)
        finally:
            answer.close()


def _taken(answer: urllib3.BaseHTTPResponse, max_bytes: int) -> bytes:
    if answer.status != 200:
        raise NotFetched(f"HTTP {answer.status}")
    ends, size, chunks = time.monotonic() + 2 * _TIMEOUT_S, 0, []
    for chunk in answer.stream(_CHUNK, decode_content=False):
        size += len(chunk)
        if size > max_bytes:
            raise NotFetched(f"larger than {max_bytes / 1e6:g} MB")
        if time.monotonic() > ends:
            raise NotFetched("takes too long")
        chunks.append(chunk)
    return b"".join(chunks)


def _is_among(host: str, hosts: Iterable[str]) -> bool:
    return any(host.endswith(one[1:]) if one.startswith("*.") else host == one for one in hosts)


_gate: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}


def _slots() -> asyncio.Semaphore:
    """Fetches at once, of one event loop."""
    return _gate.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(_AT_ONCE))
