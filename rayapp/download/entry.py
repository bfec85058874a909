"""One entry of the catalogue fetched whole in this process, without lists and without Ray."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from rayapp.config.errors import JobFailed, UserError
from rayapp.config.paths import absolute_uri
from rayapp.dataset.labels import load_scheme
from rayapp.dataset.manifest import STATUS_OK
from rayapp.download import ledger, wanted
from rayapp.download.fetch_task import Worker
from rayapp.download.origins.access import Access
from rayapp.download.origins.catalogue import Source, load_catalogue
from rayapp.download.origins.faults import Fault
from rayapp.download.origins.reader import PATIENCE, Patience
from rayapp.download.source_plan import Planner
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store

_SHOW_EVERY_S = 1.0


class Fetched(NamedTuple):
    """A file of an entry that is in place and verified; `key` is its path under the root."""

    key: str
    uri: str
    sha256: str
    num_bytes: int
    origin_uri: str
    licence: str
    attribution: str


def fetch_entry(
    name: str,
    root: str,
    *,
    catalogue: str = "sources",
    num_threads: int = 4,
    patience: Patience = PATIENCE,
    show: Callable[[int], None] = lambda num_bytes: None,
) -> list[Fetched]:
    """Fetch every file of the entry `name` to `root`, under the paths that the catalogue gives.

    What is there and still verifies is not fetched again; a large file that broke off goes on at
    the part it had reached. Each file is held against the checksum of its origin where that gives
    one (Drive: md5, the hub: sha256, ZIP: CRC-32) and against the catalogue's own.

    Args:
        name: an entry that lists its files or is a folder (`kind` weights or annotations).
        root: folder or bucket prefix.
        catalogue: name or file of the catalogue.
        num_threads: requests under way at once.
        patience: retry policy of single requests.
        show: called about once a second with the bytes that have come in so far.

    Returns:
        The files, by key.

    Raises:
        UserError: no such entry, one that needs annotation lists, credentials that are missing, or
            a root that can't be written.
        JobFailed: files that could not be had, each with its reason; run again to go on.
    """
    book = load_catalogue(catalogue)
    sources = book.choose([name])
    source = sources.get(name)
    if source is None or not is_whole(source):
        raise UserError(f"{name}: is fetched by annotation lists, by `imaginet download`")
    access = Access(book, patience=patience)
    if lacks := access.lacks(source):
        page = f"; see {source.page}" if source.page else ""
        raise UserError(f"{name}: needs {lacks}{page}")
    store = open_store(absolute_uri(root))
    scheme = load_scheme("imaginet")
    try:
        wanted.cut_up(store, [], scheme, sources)
        plan = Planner(store, access, scheme, name, source).make(None)
    except Fault as fault:
        raise JobFailed(f"{name}: {fault.reason}") from None
    except OSError as error:
        raise UserError(f"{store.root}: can't be written ({error.strerror or error})") from None
    worker = Worker(store, access, scheme, sources, num_threads)
    with _Shown(lambda: show(access.traffic.num_bytes)):
        fatal = [done.fatal for task in plan.tasks for done in worker.run(task) if done.fatal]
    if fatal:
        raise JobFailed(f"{fatal[0]}; run it again to go on")
    return _fetched(store, name)


def _fetched(store: Store, name: str) -> list[Fetched]:
    """The files of an entry, as the ledger has them.

    Raises:
        JobFailed: one is missing, or there is none.
    """
    rows = sorted(ledger.best_rows(store, name).values(), key=lambda row: str(row["path"]))
    missing = [f"{row['path']}: {row['error']}" for row in rows if row["status"] != STATUS_OK]
    if missing or not rows:
        raise JobFailed(f"{name}: {'; '.join(missing) or 'holds no file'}")
    return [
        Fetched(
            row["path"],
            store.uri(row["path"]),
            row["sha256"],
            row["bytes"],
            row["origin_uri"],
            row["licence"],
            row["attribution"],
        )
        for row in rows
    ]


def is_whole(source: Source) -> bool:
    """Whether a source says itself which files it has, so that no annotation list is needed."""
    return bool(source.files) or source.form == "folder"


class _Shown:
    """Calls `show` from a thread while the block runs, and once at its end."""

    def __init__(self, show: Callable[[], None]):
        self._show = show
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(_SHOW_EVERY_S):
            self._show()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._show()
