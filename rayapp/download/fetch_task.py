"""Do one task: fetch its rows by their route, verify, store, and enter them in the ledger."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.labels import LabelScheme
from rayapp.download import file_parts, ledger
from rayapp.download.archives import streams, zip_spans
from rayapp.download.archives.names import Wanted
from rayapp.download.archives.seven import seven_stream
from rayapp.download.archives.streams import Found, ResumePoint
from rayapp.download.archives.zip_spans import Span
from rayapp.download.archives.zips import Member
from rayapp.download.handover import BATCH, batches, load_point, point_key, save_point
from rayapp.download.origins.access import Access, scheme_of
from rayapp.download.origins.catalogue import Source
from rayapp.download.origins.faults import Action, Fault
from rayapp.download.origins.reader import Reader, has_ranges
from rayapp.download.origins.transport import HttpReader
from rayapp.download.source_plan import NO_MEMBER, Task
from rayapp.run.concurrency import as_completed
from rayapp.storage.disk import NO_ROOM, scratch_folder
from rayapp.storage.store import Store

Row = dict[str, Any]
STORE_ERRORS = (OSError, UserError, ClientError, BotoCoreError)
REPORT = 128  # rows a `Done`
SINGLES = 16  # rows a ledger part: a single file without a checksum is fetched again after a kill


class Done(NamedTuple):
    """What a task did since the last one of these; `fatal` names why nothing can go on."""

    source: str
    num_done: int
    num_failed: int
    num_bytes: int
    num_requests: int
    fatal: str = ""


class CannotStore(Exception):
    """The target takes no more files: disk full, no permission, credentials expired."""


class Worker:
    """Does tasks with `num_threads` requests under way; one a process.

    Args:
        store: where images and state go.
        access: readers of the origins.
        scheme: label columns of the rows.
        sources: the catalogue's entries by name.
        num_threads: requests and puts under way at once.
    """

    def __init__(
        self,
        store: Store,
        access: Access,
        scheme: LabelScheme,
        sources: Mapping[str, Source],
        num_threads: int = 16,
    ):
        self._store, self._access, self._sources = store, access, sources
        self._schema = ledger.schema(scheme)
        self._threads = num_threads
        self._counted = (0, 0)

    def run(self, task: Task) -> Iterator[Done]:
        """Do a task; every row of it ends in the ledger, unless a `Done` says what is fatal.

        A `Done` comes every so many rows and never by time: of a task that is done once more after
        its worker died, Ray drops as many as came before.
        """
        finished: list[Row] = []
        num_done = num_failed = 0
        try:
            rows = manifest.read_table(self._store, task.key).to_pylist()
            for row in self._rows(task, self._sources[task.source], rows):
                finished.append(row)
                num_done += 1
                num_failed += row["status"] != manifest.STATUS_OK
                if len(finished) >= (SINGLES if task.route == "single" else BATCH):
                    self._enter(task, finished)
                    finished = []
                if num_done == REPORT:
                    yield self._done(task, num_done, num_failed)
                    num_done = num_failed = 0
            self._enter(task, finished)
            if num_done:
                yield self._done(task, num_done, num_failed)
        except (CannotStore, *STORE_ERRORS) as error:
            with contextlib.suppress(CannotStore):
                self._enter(task, finished)
            fatal = error if isinstance(error, CannotStore) else self._cannot(error)
            yield Done(task.source, 0, 0, 0, 0, str(fatal))

    def _rows(self, task: Task, source: Source, rows: list[Row]) -> Iterator[Row]:
        """One result a row; of a task that was begun before, what is done is not done again."""
        begun = f"{task.key}.begun"
        if self._store.stat(begun):
            best = ledger.best_rows(self._store, task.source)
            left = []
            for row in rows:
                done = ledger.found_good(self._store, source, task.source, row, best)
                if done:
                    yield done
                else:
                    left.append(row)
            rows = left
        else:
            self._store.put(begun, b"")
        route = {"range": self._ranges, "single": self._singles, "stream": self._stream}
        if rows:
            yield from route[task.route](task, source, rows)

    def _enter(self, task: Task, rows: list[Row]) -> None:
        if not rows:
            return
        try:
            ledger.write(self._store, task.source, rows, self._schema)
        except STORE_ERRORS as error:
            raise self._cannot(error) from error

    def _done(self, task: Task, num_done: int, num_failed: int) -> Done:
        traffic = self._access.traffic
        before, self._counted = self._counted, (traffic.num_bytes, traffic.num_requests)
        num_bytes = self._counted[0] - before[0]
        return Done(task.source, num_done, num_failed, num_bytes, self._counted[1] - before[1])

    # --- routes ---------------------------------------------------------------------------------

    def _ranges(self, task: Task, source: Source, rows: list[Row]) -> Iterator[Row]:
        by_name = {row["inside"]: row for row in rows}
        members = [_member(row) for row in rows]
        try:
            reader = self._reader(task, source)
            pin = reader.pin()
            if pin != (rows[0]["archive_bytes"], rows[0]["archive_etag"]):
                raise Fault(Action.CHANGED, f"{task.uri}: replaced at the origin since its index")
        except Fault as fault:
            yield from (ledger.bad_row(row, source, task.source, fault.reason) for row in rows)
            return
        extent = max(m.offset + m.room for m in members) - min(m.offset for m in members)
        dense = zip_spans.is_dense(members, extent)
        gap_bytes = extent if dense else self._access.gap_bytes(task.uri)
        spans = zip_spans.coalesce(members, gap_bytes)

        def span_rows(span: Span) -> list[Row]:
            found = zip_spans.read_span(reader, span)
            return [self._keep(task, source, by_name[m.name], c, True) for m, c in found]

        for done in as_completed(span_rows, spans, self._threads):
            yield from done

    def _singles(self, task: Task, source: Source, rows: list[Row]) -> Iterator[Row]:
        def single(row: Row) -> Row:
            there = ledger.found_good(self._store, source, task.source, row, {})
            if there:
                return there
            content: bytes | Fault
            try:
                content, vouched = self._single(source, row)
            except Fault as fault:
                content, vouched = fault, False
            done = self._keep(task, source, {**row, "route": "single"}, content, vouched)
            if source.kind == "weights" and done["status"] == manifest.STATUS_OK:
                file_parts.discard(self._store, row["uri"])
            return done

        yield from as_completed(single, rows, self._threads)

    def _stream(self, task: Task, source: Source, rows: list[Row]) -> Iterator[Row]:
        left = {row["inside"]: row for row in rows}
        missing = NO_MEMBER
        unkept: list[Row] = []  # since the last point: who takes them may die before it keeps them
        try:
            for batch, point in batches(lambda put: self._unpack(task, source, set(left), put)):
                fresh = [(found, left.pop(found.name)) for found in batch if found.name in left]
                done = list(
                    as_completed(
                        lambda pair: self._keep_found(task, source, *pair), fresh, self._threads
                    )
                )
                unkept += done
                if point:  # all before it must be in the ledger first
                    if unkept:
                        ledger.write(self._store, task.source, unkept, self._schema)
                    unkept = []
                    save_point(self._store, task, point, [row["inside"] for row in rows])
                yield from done
            self._store.delete([point_key(task)])
        except Fault as fault:
            missing = fault.reason
        for row in left.values():
            yield ledger.bad_row(row, source, task.source, missing)

    def _unpack(
        self,
        task: Task,
        source: Source,
        names: set[str],
        put: Callable[[Found | ResumePoint], None],
    ) -> None:
        """Send every wanted member of the task's archive to `put`, whatever archive it is."""
        wanted = Wanted(names, source.match == "name")
        password = os.environ.get(source.password_variable, "") if source.password_variable else ""
        reader = self._reader(task, source)
        with scratch_folder() as folder:
            kind = streams.kind_of(reader)
            if kind == "zip" and not password and has_ranges(reader):
                inner = streams.nested(reader, Path(folder), source.inner)
                if inner is None:
                    raise Fault(Action.FAIL, NO_MEMBER)
                reader, kind = inner, streams.kind_of(inner)
                if kind == "zip":
                    streams.zip_by_index(reader, wanted, put)
                    return
            if kind == "zip":
                streams.zip_stream(reader, wanted, put, password)
            elif kind == "7z":
                seven_stream(reader, wanted, put, password)
            else:
                resume = load_point(self._store, task, names)
                gzipped = kind == "gz"
                streams.tar_stream(reader, wanted, put, gzipped=gzipped, resume=resume, save=put)

    def _reader(self, task: Task, source: Source) -> Reader:
        if source.form == "volumes":
            return self._access.archives(source)[0][1]
        return self._access.reader(task.uri)

    # --- one file -------------------------------------------------------------------------------

    def _content(self, source: Source, reader: Reader, row: Row) -> bytes:
        """The whole object; weights, which are large, in parts that a later run goes on from."""
        if source.kind != "weights" or not has_ranges(reader):
            return _whole(reader)
        try:
            return file_parts.fetch(self._store, reader, row.get("archive_etag") or "")
        except STORE_ERRORS as error:
            raise self._cannot(error) from error

    def _single(self, source: Source, row: Row) -> tuple[bytes, bool]:
        """(content, whether a checksum of the origin vouches for it); raises Fault."""
        uri, check = row["uri"], row["check"] or ""
        reader = self._access.reader(uri)
        if scheme_of(uri) == "drive":
            found = self._access.drive.metadata(uri.removeprefix("drive://"))
            row |= {"archive_etag": found.revision, "archive_bytes": found.num_bytes}
            checks = [check, f"md5:{found.md5}" if found.md5 else ""]
        else:
            checks = [check]
        fault: Fault | None = None
        for _ in range(2):  # a bit that flipped on the way is worth one more reading
            content = self._content(source, reader, row)
            fault = next((f for c in checks if (f := ledger.wrong(content, c, uri))), None)
            if fault is None:
                return content, any(c and not c.startswith("pixels:") for c in checks)
            file_parts.discard(self._store, uri)
        assert fault
        raise fault

    def _keep_found(self, task: Task, source: Source, found: Found, row: Row) -> Row:
        row = {**row, "member": found.member, "offset": found.offset}
        return self._keep(task, source, row, found.content, False)

    def _keep(
        self, task: Task, source: Source, row: Row, content: bytes | Fault, vouched: bool
    ) -> Row:
        """Store the content under the annotated path; the row tells how it went."""
        if isinstance(content, Fault):
            return ledger.bad_row(row, source, task.source, content.reason)
        check = row.get("check") or ""
        wants_pixels = check.startswith("pixels:")
        try:
            good = ledger.good_row(
                row, source, task.source, content, checked=vouched, pixels=wants_pixels
            )
            if wants_pixels and not ledger.same_pixels(good, check):
                raise Fault(Action.FAIL, "the md5 of its pixels is not the published one")
            self._put(row["path"], content)
        except Fault as fault:
            return ledger.bad_row(row, source, task.source, fault.reason)
        found = self._store.stat(row["path"])
        return {**good, "etag": found.etag if found else ""}

    def _put(self, path: str, content: bytes) -> None:
        try:
            self._store.put(path, content)
        except STORE_ERRORS as error:
            raise self._cannot(error) from error

    def _cannot(self, error: Exception) -> CannotStore:
        """What the store said, as one line with its root; or with what else is full."""
        text = (isinstance(error, OSError) and error.strerror) or str(error)
        where = self._store.root
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            named = str(error.filename or where)
            where = where if named.startswith(where) else named
        return CannotStore(text if where in text else f"{where}: {text}")


def _member(row: Row) -> Member:
    return Member(
        row["inside"],
        row["offset"],
        row["csize"],
        row["usize"],
        row["crc32"],
        row["method"],
        row["room"],
    )


def _whole(reader: Reader) -> bytes:
    if isinstance(reader, HttpReader):
        return reader.read_all()
    return reader.read(0, reader.pin().num_bytes)
