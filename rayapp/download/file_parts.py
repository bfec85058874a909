"""One large file in parts, each kept as it arrives, so that a run that broke off goes on there."""

from __future__ import annotations

import hashlib
import io

from rayapp.download.origins.reader import Reader
from rayapp.download.wanted import STATE
from rayapp.run.concurrency import as_completed
from rayapp.storage.store import Store

PART_BYTES = 64 << 20  # few: on Drive every request costs quota
_THREADS = 4


def fetch(store: Store, reader: Reader, revision: str) -> bytes:
    """The whole object from the parts of earlier runs and the ranges that are still missing.

    Args:
        store: where parts are kept.
        reader: the object, on a server with ranges.
        revision: what tells one content of the object from another, where its pin has none.

    Raises:
        Fault: a part that no retry brings; the others are kept.
    """
    pin = reader.pin()
    stem = hashlib.sha256(f"{pin.num_bytes}\0{pin.etag}\0{revision}".encode()).hexdigest()[:16]
    wanted = [
        (f"{_folder(reader.name)}{stem}-{start:015}", start, min(PART_BYTES, pin.num_bytes - start))
        for start in range(0, pin.num_bytes, PART_BYTES)
    ]

    def part(each: tuple[str, int, int]) -> None:
        key, start, num_bytes = each
        kept = store.stat(key)
        if kept is None or kept.size != num_bytes:
            store.put(key, reader.read(start, num_bytes))

    for _ in as_completed(part, wanted, _THREADS):
        pass
    content = io.BytesIO()
    for key, _, _ in wanted:
        content.write(store.get(key))
    return content.getvalue()


def discard(store: Store, uri: str) -> None:
    """Remove what is kept of an object: it is in place, or it was wrong."""
    store.delete([stat.key for stat in list(store.list(_folder(uri)))])


def _folder(uri: str) -> str:
    return f"{STATE}/parts/{hashlib.sha256(uri.encode()).hexdigest()[:24]}/"
