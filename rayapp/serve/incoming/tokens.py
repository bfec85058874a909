"""Bearer tokens: a file of their hashes, a line each, read anew when it changes.

    NAME sha256-of-the-token

A token is 256 random bits, so that its plain hash is no hint. Taking a line out of the file
revokes the token within a second.
"""

import hashlib
import hmac
import logging
import math
import re
import secrets
import threading
import time
from dataclasses import dataclass, field

from rayapp.config.errors import UserError
from rayapp.serve.refusals import Refused
from rayapp.storage.uris import split_uri

_LINE = re.compile(r"(?P<name>[\w.@-]{1,64})\s+(?P<hash>[0-9a-f]{64})")
_LOOKED_AT_S = 1.0
_log = logging.getLogger("ray.serve.imaginet")


@dataclass
class Tokens:
    """The tokens of a file; none at all where the file is gone."""

    uri: str
    _names: dict[bytes, str] = field(default_factory=dict)  # by hash
    _looked: float = -math.inf
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _etag: str = ""

    def name_of(self, authorization: str) -> str:
        """Whose token a header `Authorization: Bearer …` brings; see `refresh`.

        Raises:
            Refused: 401 where it brings none that is known.
        """
        scheme, _, token = authorization.partition(" ")
        given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        known = ""
        for one, name in self._names.items():  # all of them, whichever is right
            if hmac.compare_digest(one, given):
                known = name
        if scheme.lower() != "bearer" or not known:
            raise Refused(401, "a bearer token is wanted: Authorization: Bearer TOKEN")
        return known

    def refresh(self) -> None:
        """Read the file anew where it changed since it was looked at, at most once a second.

        Where it can't be read, or a line is no token's, no token is good.
        """
        with self._lock:
            if time.monotonic() - self._looked >= _LOOKED_AT_S:
                self._look()
                self._looked = time.monotonic()

    def _look(self) -> None:
        try:
            store, key = split_uri(self.uri)
            there = store.stat(key)
            if there is None or there.etag != self._etag:
                self._names, self._etag = {}, ""
            if there is not None and not self._etag:
                self._names = read_tokens(store.get(key), self.uri)
                self._etag = there.etag
        except (OSError, UserError) as error:
            self._names, self._etag = {}, ""
            _log.warning("no token is good: %s", error)


def read_tokens(data: bytes, uri: str) -> dict[bytes, str]:
    """Name of each token by its hash; a name may have several, such as an old and a new one.

    Raises:
        UserError: a line is none.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{uri}: not UTF-8 text; save it as UTF-8") from None
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not (plain := line.partition("#")[0].strip()):
            continue
        match = _LINE.fullmatch(plain)
        if match is None:
            raise UserError(
                f"{uri}:{number}: a line is NAME and the token's sha256 (64 hex digits)"
            )
        found[bytes.fromhex(match["hash"])] = match["name"]
    return found


def add_token(uri: str, name: str) -> str:
    """A new token, whose hash is put to the file; it is told once.

    Raises:
        UserError: the name is taken, or none.
    """
    store, key = split_uri(uri)
    before = store.get(key) if store.stat(key) else b""
    if name in read_tokens(before, uri).values():
        raise UserError(f"{uri}: has a token named {name}; take its line out, or give another name")
    token = secrets.token_urlsafe(32)
    line = f"{name} {hashlib.sha256(token.encode()).hexdigest()}"
    if not _LINE.fullmatch(line):
        raise UserError(f"{name!r}: a token's name is letters, digits and . @ - _, 64 at most")
    kept = before if not before or before.endswith(b"\n") else before + b"\n"
    store.put(key, kept + f"{line}\n".encode())
    return token
