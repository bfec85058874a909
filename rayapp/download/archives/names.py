"""Which member of an archive answers to which wanted name."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]
# odd random weights: endings are compared by one hash each, equal ones once more as they are
_WEIGHTS = np.random.default_rng(0).integers(0, 1 << 63, 20, np.uint64) * np.uint64(2) + np.uint64(
    1
)


@dataclass
class Wanted:
    """The names looked for, as bytes; a member matches by its whole name or by its tail.

    `by_name` also finds a member that lies elsewhere in the archive under the same file name.
    """

    names: set[str]
    by_name: bool = False
    _tails: dict[bytes, list[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.names:
            whole = unicodedata.normalize("NFC", name).encode()
            self._tails.setdefault(whole.rsplit(b"/", 1)[-1], []).append(whole)

        shortest = min((len(w) for ws in self._tails.values() for w in ws), default=1)
        if self.by_name:
            shortest = min((len(tail) for tail in self._tails), default=1)
        self._ending = max(min(shortest, len(_WEIGHTS)), 1)
        ends = [w[-self._ending :] for ws in self._tails.values() for w in ws]
        bytes_NE = np.frombuffer(b"".join(ends), np.uint8).reshape(len(ends), -1 if ends else 1)
        self._hashes = np.unique(self._hashed(bytes_NE))

    def _hashed(self, bytes_NE: NDArray[np.uint8]) -> NDArray[np.uint64]:
        return bytes_NE.astype(np.uint64) @ _WEIGHTS[: bytes_NE.shape[1]]

    def likely(self, buffer: bytes, places: Places) -> Places:
        """Those entries whose last few bytes of name are those of a wanted one, or need care.

        N entries, E bytes of ending. Names that are short or not ASCII at their end need care.
        """
        data = np.frombuffer(buffer, np.uint8)
        lengths_N = data[places + 28] + (data[places + 29].astype(np.int64) << 8)
        ends_N = places + 46 + lengths_N
        bytes_NE = data[ends_N[:, None] - np.arange(self._ending, 0, -1)]
        likely_N = np.isin(self._hashed(bytes_NE), self._hashes)
        likely_N |= (bytes_NE > 127).any(1) | (lengths_N < self._ending)
        return places[likely_N]

    def match(self, name: bytes) -> str | None:
        """The wanted name that the member `name` answers to."""
        wholes = self._tails.get(name[name.rfind(b"/") + 1 :])
        if wholes is None:
            return None
        for whole in wholes:
            if name == whole or name.endswith(b"/" + whole):
                return whole.decode()
        return wholes[0].decode() if self.by_name and len(wholes) == 1 else None

    def find(self, name: bytes, is_utf8: bool) -> str | None:
        """`match`, for a name that may be in code page 437 or in decomposed Unicode."""
        found = self.match(name)
        if found is None and not name.isascii():
            for encoding in ("utf-8",) if is_utf8 else ("utf-8", "cp437"):
                text = name.decode(encoding, "replace")
                found = found or self.match(unicodedata.normalize("NFC", text).encode())
        return found
