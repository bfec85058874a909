"""What stores of objects in a bucket have in common: names, tries, deletes, listings by pages."""

import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import BinaryIO, ClassVar, NamedTuple, TypeVar

from rayapp.config.errors import UserError
from rayapp.storage.retry import Tries
from rayapp.storage.store import Stat, check_key, check_prefix

T = TypeVar("T")
SILENCE_S = 60.0  # an answer that makes no progress for so long is asked for again
CONNECTIONS = 64  # a client serves all threads
# The clouds' clients repeat a request by themselves; this is for what they do not repeat.
TRIES = Tries(attempts=5, base_s=0.2)
_DELETES = 16
_DELETED_AT_ONCE = 1000


class BucketStore:
    """Names under a prefix of a bucket."""

    scheme: ClassVar[str]

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.root = f"{self.scheme}://{bucket}/{prefix}".rstrip("/")
        self._cut = len(prefix) + 1 if prefix else 0

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{check_key(key)}" if self.prefix else check_key(key)

    def _start(self, prefix: str) -> str:
        """How the names of all objects under a prefix begin."""
        return f"{self.prefix}/{check_prefix(prefix)}" if self.prefix else check_prefix(prefix)

    def sweep(self, before: float) -> None:
        """Nothing: a put that was cut off left no object."""

    def uri(self, key: str = "") -> str:
        """`scheme://bucket/prefix/key`."""
        return f"{self.root}/{check_key(key)}" if key else self.root


class Page(NamedTuple):
    """A page of a listing, by whole names, and where the next one begins (empty: nowhere)."""

    objects: Sequence[Stat]
    folders: Sequence[str]
    following: str


class Damaged(OSError):
    """Bytes that changed on the way: what came is not what was sent."""


class CloudStore(BucketStore, ABC):
    """The operations of a store, of which a cloud's subclass makes the single requests.

    A request raises FileNotFoundError and FileExistsError inside of `_named`, whatever the cloud's
    client calls them.
    """

    @abstractmethod
    def _put(self, name: str, data: bytes | BinaryIO, if_absent: bool) -> None:
        """Store an object whole, checked against a checksum of what was sent."""

    @abstractmethod
    def _get(self, name: str) -> bytes:
        """All bytes of an object, checked where the cloud keeps a checksum of the whole."""

    @abstractmethod
    def _get_range(self, name: str, start: int, length: int) -> bytes:
        """At most `length` (above 0) bytes from `start`; none beyond the end."""

    @abstractmethod
    def _head(self, name: str) -> Stat:
        """What is known of an object."""

    @abstractmethod
    def _page(self, start: str, delimiter: str, at: str) -> Page:
        """A page of the objects whose names begin with `start`, folded at the delimiter."""

    @abstractmethod
    def _remove(self, name: str) -> None:
        """Remove an object."""

    @abstractmethod
    def _passes(self, error: BaseException) -> bool:
        """Whether another try may mend what the cloud's client itself does not repeat."""

    @abstractmethod
    def _named(self, uri: str) -> AbstractContextManager[None]:
        """Errors of the client as ours: what no retry mends is a UserError, all else an OSError."""

    def _ask(self, uri: str, once: Callable[[], T]) -> T:
        with self._named(uri):
            return TRIES.call(once, lambda error: isinstance(error, Damaged) or self._passes(error))

    def put(self, key: str, data: bytes | BinaryIO, *, if_absent: bool = False) -> bool:
        """One put that is checked against a checksum; conditional with `if_absent`."""
        name = self._key(key)

        def once() -> None:
            if not isinstance(data, bytes):
                data.seek(0)
            self._put(name, data, if_absent)

        try:
            self._ask(self.uri(key), once)
        except FileExistsError:
            if not if_absent:
                raise
            return False
        except FileNotFoundError:
            raise self._nowhere() from None
        return True

    def get(self, key: str) -> bytes:
        """All bytes of the object."""
        return self._ask(self.uri(key), partial(self._get, self._key(key)))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Bytes `start … start + length - 1`, fewer at the end of the object."""
        name = self._key(key)
        if length <= 0:
            return b""
        return self._ask(self.uri(key), lambda: self._get_range(name, start, length))

    def stat(self, key: str) -> Stat | None:
        """Size, etag and time by one request."""
        name = self._key(key)
        try:
            found = self._ask(self.uri(key), partial(self._head, name))
        except FileNotFoundError:
            return None
        return self._below(found)

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """Every object under the prefix, a page a request."""
        for page in self._pages(prefix, self._start(prefix), ""):
            yield from map(self._below, page.objects)

    def level(self, folder: str) -> tuple[Sequence[str], Sequence[Stat]]:
        """The folders and the objects directly in a folder, a page a request."""
        start = f"{self._key(folder)}/" if folder else self._start("")
        folders: list[str] = []
        objects: list[Stat] = []
        for page in self._pages(folder, start, "/"):
            folders += [name[self._cut : -1] for name in page.folders]
            objects += map(self._below, page.objects)
        return folders, objects

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects, several at a time."""
        waiting = iter(keys)
        while some := list(itertools.islice(waiting, _DELETED_AT_ONCE)):
            with ThreadPoolExecutor(min(_DELETES, len(some))) as pool:
                for _ in pool.map(self._delete, some):
                    pass

    def _delete(self, key: str) -> None:
        name = self._key(key)
        with suppress(FileNotFoundError):
            self._ask(self.uri(key), partial(self._remove, name))

    def _pages(self, prefix: str, start: str, delimiter: str) -> Iterator[Page]:
        uri, at = f"{self.root}/{prefix}", ""
        while True:
            try:
                page = self._ask(uri, partial(self._page, start, delimiter, at))
            except FileNotFoundError:
                raise self._nowhere() from None
            yield page
            if not page.following:
                return
            at = page.following

    def _nowhere(self) -> UserError:
        """What is not found is no object: it is where all of them would be."""
        where = f"{self.scheme}://{self.bucket}"
        return UserError(f"{where}: there is no such bucket or container, or no such account")

    def _below(self, found: Stat) -> Stat:
        """An object by its key under the prefix."""
        return Stat(found.key[self._cut :], found.size, found.etag, found.modified)


_UNREACHED = re.compile(r"host='([^']+)', port=(\d+)\): Max retries exceeded .*: ([^:]+)$")


def unreached(text: str) -> str:
    """What an HTTP client says of a server that it did not reach, in few words; else as it is."""
    found = _UNREACHED.search(text)
    if not found:
        return text
    host, port, why = found.groups()
    return f"{host}:{port} was not reached ({why.rstrip(')').strip(chr(34) + chr(39))})"


def length_of(data: bytes | BinaryIO) -> int:
    """Bytes of what is to be put; a file stands at its start again."""
    if isinstance(data, bytes):
        return len(data)
    end = data.seek(0, 2)
    data.seek(0)
    return end
