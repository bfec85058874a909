"""Plan one source: what is there and good, what is where at the origin, cut into tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from rayapp.dataset import manifest
from rayapp.dataset.labels import LabelScheme
from rayapp.download import ledger, wanted
from rayapp.download.archives import streams, zips
from rayapp.download.archives.names import Wanted
from rayapp.download.archives.zips import Member
from rayapp.download.origins.access import Access, scheme_of
from rayapp.download.origins.catalogue import Source
from rayapp.download.origins.faults import Action, Fault
from rayapp.download.origins.reader import Reader, has_ranges
from rayapp.download.wanted import STATE
from rayapp.storage.disk import scratch_folder
from rayapp.storage.store import Store

Row = dict[str, Any]

NO_MEMBER = "no such member in the archive"
TASK_ROWS = 256
TASK_BYTES = 64 << 20
_MEMBER_FIELDS = {
    "inside": pa.string(),
    "uri": pa.string(),
    "csize": pa.int64(),
    "usize": pa.int64(),
    "method": pa.int16(),
    "room": pa.int64(),
    "check": pa.string(),
}


@dataclass(frozen=True)
class Task:
    """A piece of work: the plan rows under `key`, by one route ('range', 'stream' or 'single')."""

    source: str
    key: str
    route: str
    uri: str
    num_rows: int
    num_bytes: int


@dataclass
class SourcePlan:
    """What a source's run will do."""

    source: str
    num_wanted: int = 0
    num_present: int = 0
    num_missing: int = 0
    num_unverified: int = 0  # files there that no ledger row tells of
    num_bytes: int = 0
    num_requests: int = 0
    tasks: list[Task] = field(default_factory=list)


class Planner:
    """Plans one source; reads central directories, writes plan parts and adopted ledger rows."""

    def __init__(
        self, store: Store, access: Access, scheme: LabelScheme, name: str, source: Source
    ):
        self._store, self._access, self._name, self._source = store, access, name, source
        self._ledger_schema = ledger.schema(scheme)
        extra = {**ledger.PROVENANCE, **_MEMBER_FIELDS}
        self._plan_schema = manifest.schema(scheme, extra)
        self._fresh: list[Row] = []
        self._names: set[str] = set()
        self.plan = SourcePlan(name)

    def dry(self, limit: int | None) -> SourcePlan:
        """Count what is wanted, present and to fetch; nothing is asked from the origin."""
        num_left = 0
        for rows in self._left(limit):
            num_left += len(rows)
            self.plan.num_unverified += sum(bool(self._store.stat(row["path"])) for row in rows)
        self.plan.num_bytes = num_left * self._source.image_bytes
        self.plan.num_requests = num_left
        return self.plan

    def make(self, limit: int | None) -> SourcePlan:
        """Plan for real: `plan.tasks` hold all that is left to do; raises Fault."""
        self._store.delete(
            [stat.key for stat in list(self._store.list(f"{STATE}/plan/{self._name}/"))]
        )
        if self._source.form == "folder":
            self._folder()
        elif self._source.form in ("files", "ffhq"):
            self._singles(limit)
        else:
            left = {row["inside"]: row for rows in self._left(limit) for row in rows}
            if left:
                self._archives(left)
        self._flush_fresh(1)
        return self.plan

    def give_up(self, limit: int | None, reason: str) -> SourcePlan:
        """Name every image of the source as missed for one reason."""
        for rows in self._left(limit):
            for row in rows:
                self._bad(row, reason)
        if self._source.form == "folder":
            self.plan.num_wanted += 1
            self._bad({"id": f"{self._name}/", "path": f"{self._name}/"}, reason)
        self._flush_fresh(1)
        return self.plan

    def _folder(self) -> None:
        """Everything that a folder holds, under a folder of the source's name."""
        done = ledger.best_rows(self._store, self._name)
        left: list[Row] = []
        for file in self._access.listing(self._source.at[0]):
            path = f"{self._name}/{file.name.replace('/', '_')}"
            row = {"id": path, "path": path, "uri": file.uri, "origin_uri": file.uri}
            row |= {"inside": file.name, "check": file.check}
            self.plan.num_wanted += 1
            good = ledger.still_good(self._store, done.get(path), self._store.stat(path))
            self.plan.num_present += good
            left += [] if good else [row]
        if left:
            self._task("000000", "single", "", left, len(left) * self._source.image_bytes)

    def _left(self, limit: int | None) -> Iterator[list[Row]]:
        """The wanted rows that are not done, a bucket at a time."""
        done = ledger.best_rows(self._store, self._name)
        for table in wanted.buckets(self._store, self._name):
            rows = wanted.rows_of(table)
            if limit is not None:
                rows = rows[: max(limit - self.plan.num_wanted, 0)]
            self.plan.num_wanted += len(rows)
            if self._source.form in ("archive", "volumes"):
                self._names.update(row["inside"] for row in rows)
            left = []
            for row in rows:
                before = done.get(row["path"])
                good = before is not None and ledger.still_good(
                    self._store, before, self._store.stat(row["path"])
                )
                if good:
                    self.plan.num_present += 1
                else:
                    left.append(row)
            yield left

    def _singles(self, limit: int | None) -> None:
        listed = (
            ffhq_list(self._access, self._source.listing) if self._source.form == "ffhq" else {}
        )
        number = 0
        for rows in self._left(limit):
            planned: list[Row] = []
            for row in rows:
                inside = row["inside"]
                check = self._source.files.get(row["path"], "")
                if self._source.form == "ffhq":
                    if inside not in listed:
                        self._bad(row, "not in the published list of FFHQ")
                        continue
                    uri, check = f"drive://{listed[inside][0]}", f"pixels:{listed[inside][1]}"
                else:
                    uri = self._source.at[0].replace("{name}", inside)
                planned.append({**row, "uri": uri, "origin_uri": uri, "check": check})
            for start in range(0, len(planned), TASK_ROWS):
                part = planned[start : start + TASK_ROWS]
                bytes_each = self._source.image_bytes
                self._task(f"{number:06}", "single", "", part, len(part) * bytes_each)
                number += 1

    def _archives(self, left: dict[str, Row]) -> None:
        for number, (uri, reader) in enumerate(self._access.archives(self._source)):
            with scratch_folder() as folder:
                self._archive(number, uri, reader, left, Path(folder))
        for row in left.values():
            self._bad(row, NO_MEMBER)

    def _archive(
        self, number: int, uri: str, reader: Reader, left: dict[str, Row], folder: Path
    ) -> None:
        if not left:
            return
        if not self._by_ranges(reader):
            self._stream(number, uri, left)
            return
        index = self._index(reader)
        if not index.members and streams.nested(reader, folder, self._source.inner):
            self._stream(number, uri, left)
            return
        for name, reason in index.ambiguous.items():
            if name in left:
                self._bad(left.pop(name), reason)
        pin = reader.pin()
        planned = []
        members = [member for member in index.members if member.name in left]
        for member in sorted(members, key=lambda each: each.offset):
            row = left.pop(member.name)
            row |= {"origin_uri": uri, "archive_etag": pin.etag, "archive_bytes": pin.num_bytes}
            row |= {"uri": uri, "member": member.name, "offset": member.offset}
            row |= {"csize": member.csize, "usize": member.usize, "crc32": member.crc}
            row |= {"method": member.method, "room": member.room, "route": "range"}
            refusal = zips.refusal(member)
            if refusal:
                self._bad(row, refusal)
            elif not self._adopted(row):
                planned.append(row)
        for part_number, part in enumerate(_cut(planned)):
            num_bytes = sum(row["room"] for row in part)
            self._task(f"{number:03}-{part_number:06}", "range", uri, part, num_bytes)

    def _by_ranges(self, reader: Reader) -> bool:
        """Whether the archive is a ZIP on a server with ranges, and not an encrypted one."""
        return (
            has_ranges(reader)
            and streams.kind_of(reader) == "zip"
            and not self._source.password_variable
        )

    def _index(self, reader: Reader) -> zips.Index:
        """The central directory filtered by all that is wanted, done or not.

        It is kept under the archive's pin and the wanted names, so that a resumed run has it.
        """
        pin = reader.pin()
        parts = [reader.name, str(pin.num_bytes), pin.etag, *sorted(self._names)]
        stem = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
        key = f"{STATE}/index/{stem}.parquet"
        if self._store.stat(key):
            rows = manifest.read_table(self._store, key).to_pylist()
            members = [Member(**{k: row[k] for k in Member._fields}) for row in rows]
            found = [m for m, row in zip(members, rows, strict=True) if not row["reason"]]
            unclear = {row["name"]: row["reason"] for row in rows if row["reason"]}
            return zips.Index(found, unclear, 0, 0)
        index = zips.read_index(reader, Wanted(self._names, self._source.match == "name"))
        rows = [{**member._asdict(), "reason": ""} for member in index.members]
        blank = dict.fromkeys(Member._fields, 0)
        rows += [{**blank, "name": k, "reason": v} for k, v in index.ambiguous.items()]
        types = [(k, pa.string() if k == "name" else pa.int64()) for k in Member._fields]
        table = pa.Table.from_pylist(rows, schema=pa.schema([*types, ("reason", pa.string())]))
        manifest.write_table(self._store, key, table)
        return index

    def _adopted(self, row: Row) -> bool:
        """Whether the right file is there without a ledger row."""
        good = ledger.found_good(self._store, self._source, self._name, row, {})
        if good:
            self._fresh.append(good)
            self.plan.num_present += 1
            self._flush_fresh(2_000)
        return good is not None

    def _stream(self, number: int, uri: str, left: dict[str, Row]) -> None:
        rows = [{**row, "uri": uri, "origin_uri": uri, "route": "stream"} for row in left.values()]
        left.clear()
        self._task(f"{number:03}-stream", "stream", uri, rows, len(rows) * self._source.image_bytes)

    def _task(self, stem: str, route: str, uri: str, rows: list[Row], num_bytes: int) -> None:
        key = f"{STATE}/plan/{self._name}/{stem}.parquet"
        names = self._plan_schema.names
        columns = {name: [row.get(name) for row in rows] for name in names}
        table = pa.table(columns, schema=self._plan_schema)
        manifest.write_table(self._store, key, table)
        self.plan.tasks.append(Task(self._name, key, route, uri, len(rows), num_bytes))
        self.plan.num_bytes += num_bytes
        self.plan.num_requests += len(rows)

    def _bad(self, row: Row, reason: str) -> None:
        self._fresh.append(ledger.bad_row(row, self._source, self._name, reason))
        self.plan.num_missing += 1
        self._flush_fresh(2_000)

    def _flush_fresh(self, least: int) -> None:
        if len(self._fresh) >= least:
            ledger.write(self._store, self._name, self._fresh, self._ledger_schema)
            self._fresh = []


def _cut(rows: list[Row]) -> Iterator[list[Row]]:
    """Tasks of neighbours: at most `TASK_ROWS` members and about `TASK_BYTES`."""
    part: list[Row] = []
    num_bytes = 0
    for row in rows:
        if part and (len(part) == TASK_ROWS or num_bytes + row["room"] > TASK_BYTES):
            yield part
            part, num_bytes = [], 0
        part.append(row)
        num_bytes += row["room"]
    if part:
        yield part


def ffhq_list(access: Access, uri: str) -> dict[str, tuple[str, str]]:
    """File name → (Drive id, md5 of the decoded RGB array) of the published list; raises Fault."""
    if scheme_of(uri) in ("http", "https"):
        data = access.http_reader(uri).read_all()
    else:
        data = b"".join(access.reader(uri).stream())
    listed = {}
    for number, line in enumerate(data.decode("utf-8-sig").split(), start=1):
        parts = line.split(",")
        if len(parts) != 3 or len(parts[2]) != 32:
            raise Fault(Action.FAIL, f"{uri}:{number}: `drive id,name,md5` is wanted")
        listed[parts[1]] = (parts[0], parts[2])
    return listed
