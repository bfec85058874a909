"""Files on the web, fetched politely: few requests at once to a host, fewer where it asks."""

import functools
import threading
from collections import defaultdict
from collections.abc import Mapping
from urllib.parse import urlsplit

import urllib3

from rayapp.config.defaults import __version__
from rayapp.storage.retry import Tries

MAX_BYTES = 256 << 20
_AT_ONCE = 2  # requests to a host, of one process
_TIMEOUT = urllib3.Timeout(connect=10.0, read=30.0)
_CHUNK_BYTES = 1 << 20
_LONGEST_PAUSE_S = 60.0
_TRIES = Tries(attempts=4, base_s=1.0, cap_s=30.0)
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_AGENT = f"imaginet-ray/{__version__} (scores images; honours Retry-After)"

_hosts: dict[str, threading.BoundedSemaphore] = defaultdict(
    lambda: threading.BoundedSemaphore(_AT_ONCE)
)


class WebError(OSError):
    """A file can't be had from its address; `status` is the answer's, 0 where there was none."""

    def __init__(self, why: str, status: int = 0, pause_s: float | None = None) -> None:
        super().__init__(why)
        self.status, self.pause_s = status, pause_s


def fetch(url: str, headers: Mapping[str, str] | None = None) -> bytes:
    """All bytes at an address, or of its part that `headers` ask for.

    Raises:
        WebError: no such address, no answer, too large, or not whole.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WebError(f"{url}: no http:// or https:// address")
    with _hosts[parts.hostname]:
        return _TRIES.call(
            lambda: _fetched(url, headers or {}),
            _mends,
            lambda error: getattr(error, "pause_s", None),
        )


def _mends(error: BaseException) -> bool:
    return isinstance(error, WebError) and (error.status == 0 or error.status in _AGAIN)


def _fetched(url: str, headers: Mapping[str, str]) -> bytes:
    try:
        answer = _pool().request(
            "GET",
            url,
            headers={"User-Agent": _AGENT, **headers},
            preload_content=False,
            timeout=_TIMEOUT,
            retries=urllib3.Retry(5, connect=0, read=0, redirect=5, status=0, other=0),
        )
        try:
            if answer.status not in (200, 206):
                pause = answer.headers.get("Retry-After", "")
                pause_s = min(float(pause), _LONGEST_PAUSE_S) if pause.isdecimal() else None
                raise WebError(f"HTTP {answer.status}", answer.status, pause_s)
            chunks, size = [], 0
            for chunk in answer.stream(_CHUNK_BYTES):
                size += len(chunk)
                if size > MAX_BYTES:
                    raise WebError(f"larger than {MAX_BYTES >> 20} MiB", answer.status)
                chunks.append(chunk)
            return b"".join(chunks)
        finally:
            answer.release_conn() if answer.closed else answer.close()
    except urllib3.exceptions.LocationParseError as error:
        raise WebError(str(error), 400) from None
    except urllib3.exceptions.HTTPError as error:
        raise WebError(f"{type(error).__name__} at {urlsplit(url).hostname}") from None


@functools.cache
def _pool() -> urllib3.PoolManager:
    return urllib3.PoolManager(num_pools=64, maxsize=_AT_ONCE)
