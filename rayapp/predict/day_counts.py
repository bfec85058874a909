"""Counts of what predict scores, by day, beside the scores; of a followed folder they add up.

Of a followed folder each row says when it was scored. What was scored after the counts' `until` is
not in them yet: a run that was cut off between scores and counts counts it the next time, and
nothing is counted twice, whatever has gone from the folder since.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from rayapp.dataset.scores import SCORED_AT, day_of
from rayapp.metrics.traffic import Traffic, decided_by, today
from rayapp.metrics.traffic_files import TRAFFIC_FOLDER, read_counts, traffic_key
from rayapp.models.verdicts import Judge
from rayapp.storage.store import Store


@dataclass
class DayCounts:
    """Counts score tables as they come by.

    Args:
        judge: what a logit means.
        detector: its hash.
        until: rows that were scored up to then are passed over; those without a time are of today.
    """

    judge: Judge
    detector: str
    until: str = ""
    traffic: Traffic = field(init=False)

    def __post_init__(self) -> None:
        self.traffic = Traffic(self.detector, decided_by(self.judge))

    def add(self, table: pa.Table) -> None:
        """Look at rows of scores."""
        if SCORED_AT.name not in table.column_names:
            self.traffic.add_table(table, self.judge, today())
            return
        new = table.filter(pc.greater(table[SCORED_AT.name], self.until))
        for time in sorted(set(new[SCORED_AT.name].to_pylist())):
            some = new.filter(pc.equal(new[SCORED_AT.name], time))
            self.traffic.add_table(some, self.judge, day_of(time))
            self.traffic.until = max(self.traffic.until, time)

    def write(self, store: Store) -> None:
        """Write the counts; those of a followed folder are added to what is there."""
        key = traffic_key(self.traffic)
        if self.traffic.until or self.until:
            if store.stat(key) is not None:
                before = Traffic.from_json(store.get(key), store.uri(key))
                before.merge(self.traffic)
                self.traffic = before
            self.traffic.until = max(self.until, self.traffic.until)
        store.put(key, self.traffic.to_json().encode())


def counted_until(store: Store) -> str:
    """Up to when the rows of a followed folder are counted; empty: none is."""
    if next(iter(store.list(f"{TRAFFIC_FOLDER}/")), None) is None:
        return ""
    return max(one.until for one in read_counts(store.uri(TRAFFIC_FOLDER)).values())


def now_after(until: str) -> str:
    """The time now, in an order after `until` even where the clock was set back."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if now > until:
        return now
    last, _, number = until.partition(" ")[0].partition("+")
    count = int(number.strip("+") or 0) + 1
    return f"{last}+{count:06d} {now}"


def stamped(chunks: Iterable[pa.Table], now: str, before: pa.Table) -> Iterable[pa.Table]:
    """New rows with the time; a file that failed before and is as it was keeps that time."""
    known: dict[tuple[str, str], str] = {}
    if SCORED_AT.name in before.column_names:
        columns = (before[name].to_pylist() for name in ("id", "etag", SCORED_AT.name))
        known = {(item, etag): time for item, etag, time in zip(*columns, strict=True)}
    for chunk in chunks:
        keys = zip(chunk["id"].to_pylist(), chunk["etag"].to_pylist(), strict=True)
        times = pa.array([known.get(key) or now for key in keys], pa.string())
        yield chunk.append_column(SCORED_AT, times)
