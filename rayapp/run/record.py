"""run.json: what a job did, with which settings, code and inputs; written last, read first.

The file makes a job resumable: where it stands and agrees, the job is done; where its
fingerprint differs, the output belongs to another run and is not touched without `overwrite`.
A run claims its output when its work begins: one that is refused before has written nothing there,
and removed nothing that another run left.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rayapp.config import clock
from rayapp.config.errors import JobFailed, UserError
from rayapp.config.settings import Settings
from rayapp.run.fingerprint import (
    fingerprint,
    read_record,
    versions,
    what_differs,
    with_new_fields,
    write_record,
)
from rayapp.run.resume import all_there, is_there
from rayapp.storage.store import Store, is_gone, writer
from rayapp.storage.uris import open_store

RUN_FILE = "run.json"
START_FILE = "started.json"


@dataclass
class Run:
    """One run of a job: its store, fingerprint and start."""

    job: str
    store: Store
    fingerprint: dict[str, Any]
    state: Literal["new", "resumed", "done"]
    found: dict[str, Any] = field(default_factory=dict)
    _start: float = field(default_factory=clock.since)
    _started: float = field(default_factory=time.time)
    _unclaimed: bool = False
    _adds: bool = False  # to what is there, of which nothing is removed
    _replaced: Mapping[str, Any] | None = None  # record of the run that `overwrite` gives up

    def claim(self) -> None:
        """Mark the output as this run's, and empty it of the run that it replaces.

        Of a new run it comes before the first read or write of the output.

        Raises:
            UserError: another run has claimed it meanwhile, or it can't be written.
        """
        if not self._unclaimed:
            return
        if self._replaced is not None:
            if not self._adds:
                _empty(self.store, self._replaced)
        else:
            found = read_record(self.store, START_FILE)
            differences = what_differs(found, self.job, self.fingerprint) if found else []
            if found and differences and not _is_abandoned(self.store, found):
                raise _another(self.store, differences, unfinished=True)
        _begin(self.store, self.job, self.fingerprint)
        self._unclaimed = False

    @contextlib.contextmanager
    def claimed(self, scratch: str = "") -> Iterator[None]:
        """Claim the output for work that may yet be refused; given back if nothing was written.

        Args:
            scratch: a folder of which the files alone are nothing.
        """
        self.claim()
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # what ended the work is what is to be told
                if self.state == "new" and not self._has_written(scratch):
                    self.store.delete([stat.key for stat in list(self.store.list())])
                    self._unclaimed = True
            raise

    def _has_written(self, scratch: str) -> bool:
        keys = (stat.key for stat in self.store.list())
        return any(k != START_FILE and not (scratch and k.startswith(f"{scratch}/")) for k in keys)

    def finish(
        self,
        counts: Mapping[str, Any],
        results: Mapping[str, Any] | None = None,
        *,
        made: Sequence[str] = (),
    ) -> None:
        """Write run.json, the mark that the job is done, and sweep up after killed attempts.

        Args:
            counts: what the end says in numbers.
            results: what else is to be known of the run.
            made: the files and folders that are its result; as long as they are there it is done.

        Raises:
            JobFailed: one of them is not there.
        """
        assert not self._unclaimed, "claim() comes before the first write"
        for key in made:
            existing(self.store, key)
        record = {
            "job": self.job,
            **self.fingerprint,
            "counts": dict(counts),
            "results": dict(results or {}),
            "made": list(made),
            "seconds": round(time.monotonic() - self._start, 2),
            "finished": now(),
            "versions": versions(),
        }
        self.store.put(RUN_FILE, json.dumps(record, indent=1, ensure_ascii=False).encode())
        self.store.delete([START_FILE])
        # A resumed run is alone here, so what is older than it is left over.
        self.store.sweep(self._started if self.state == "resumed" else 0.0)
        self.found = record
        if self.state == "done":  # a followed prefix had more
            self.state = "resumed"

    def print_summary(self, where: Mapping[str, str], then: str = "") -> None:
        """Print what a person wants to know at the end: counts, where results are, what next.

        Raises:
            JobFailed: a result is not where it is said to be.
        """
        places = {name: existing(self.store, key) for name, key in where.items()}
        seconds, before = time.monotonic() - self._start, ""
        if self.state == "done":  # then is when it took its time, not now
            finished = self.found["finished"].replace("T", " ").replace("Z", " UTC")
            seconds, before = self.found["seconds"], f", {finished} (done before)"
        spent = duration(seconds) if seconds >= 1 else f"{seconds:.1f} s"
        print(f"\n{self.job}: done in {spent}{before}")
        lines = {name: f"{value:,}" for name, value in self.counts.items()}
        lines |= places
        width = max(map(len, lines), default=0)
        for name, value in lines.items():
            print(f"  {name:<{width}}  {value}")
        if then:
            print(f"next: {then}")

    @property
    def counts(self) -> dict[str, Any]:
        """The counts of the finished run."""
        return dict(self.found.get("counts", {}))

    @property
    def results(self) -> dict[str, Any]:
        """What else the finished run recorded."""
        return dict(self.found.get("results", {}))


def start(
    job: str,
    settings: Settings,
    inputs: Mapping[str, str],
    *,
    output: str,
    overwrite: bool,
    placement: frozenset[str] = frozenset(),
    adds: bool = False,
) -> Run:
    """Open a job's output: new, to be resumed, or done already; a new run has yet to claim it.

    Args:
        job: its name.
        settings: all that the result depends on; fields that only place the work are ignored.
        inputs: name → sha256 of what is read.
        output: the folder's URI.
        overwrite: empty an output that belongs to another run.
        placement: the job's own fields that only place the work.
        adds: the output may hold files of others, and `overwrite` removes nothing of another run.

    Raises:
        UserError: the output belongs to a run with other settings, inputs or code.
    """
    store = open_store(output)
    wanted = fingerprint(settings, inputs, placement)
    replaced = None
    for key in (RUN_FILE, START_FILE):
        found = read_record(store, key, type(settings))
        if found is None:
            continue
        found["settings"] = with_new_fields(found["settings"], settings, wanted["settings"])
        differences = what_differs(found, job, wanted)
        if not differences and key == RUN_FILE and all_there(store, found):
            return Run(job, store, wanted, "done", found)
        if not differences:
            _begin(store, job, wanted)
            store.delete([RUN_FILE])
            return Run(job, store, wanted, "resumed")
        if key == START_FILE and _is_abandoned(store, found):
            store.delete([START_FILE])
            continue
        if not overwrite:
            raise _another(store, differences, unfinished=key == START_FILE, kept=adds)
        replaced = found
        break
    else:
        if not overwrite and not adds and next(iter(store.list()), None) is not None:
            raise UserError(
                f"{store.root}: is not empty and holds no run of ours; "
                "give an empty --output, or --overwrite to write beside what is there"
            )
    if replaced is None:  # what can't be written is said before the work begins
        _begin(store, job, wanted)
        store.delete([START_FILE])
    return Run(job, store, wanted, "new", _unclaimed=True, _adds=adds, _replaced=replaced)


def _begin(store: Store, job: str, fingerprint: Mapping[str, Any]) -> None:
    write_record(store, START_FILE, {"job": job, **fingerprint, "writer": writer()})


def _is_abandoned(store: Store, found: Mapping[str, Any]) -> bool:
    """Whether a run ended before it wrote anything, and its process, of this machine, is gone."""
    return is_gone(found.get("writer", "")) and all(s.key == START_FILE for s in store.list())


def _another(
    store: Store, differences: Sequence[str], unfinished: bool, kept: bool = False
) -> UserError:
    reasons = "; ".join([*differences, *["it did not finish"] * unfinished])
    what_it_does = ", which adds to what is there and removes nothing" if kept else ""
    return UserError(
        f"{store.root}: holds the output of another run ({reasons}); "
        f"give another --output, or --overwrite{what_it_does}"
    )


def existing(store: Store, key: str) -> str:
    """The URI of a result, a file or a folder, that is there.

    Raises:
        JobFailed: it is not.
    """
    if not is_there(store, key):
        raise JobFailed(
            f"{store.uri(key)}: is not there, though the work is through; it was removed since, or "
            "this run was asked for without it: --overwrite makes everything anew"
        )
    return store.uri(key)


def holds_run(store: Store) -> bool:
    """Whether a run of ours, finished or begun, lies at the top of a store."""
    return any(read_record(store, key) is not None for key in (RUN_FILE, START_FILE))


def _empty(store: Store, found: Mapping[str, Any]) -> None:
    """Remove another run's output; cut off on the way, the folder still belongs to that run."""
    store.put(START_FILE, json.dumps(found).encode())
    store.delete([RUN_FILE])
    store.delete([stat.key for stat in list(store.list()) if stat.key != START_FILE])


def digest(*parts: bytes) -> str:
    """Hex sha256 over byte strings, each with its length: what an input's hash is made of."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s` or `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
