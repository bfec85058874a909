"""What there is once in a service, however many replicas answer: its counts, and its batches."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rayapp.metrics.traffic import Traffic
from rayapp.metrics.traffic_files import traffic_key
from rayapp.serve.batch.batch_runner import Batches
from rayapp.serve.counts import Answered, RequestCounts, joined
from rayapp.serve.kept_images import KeptImages
from rayapp.serve.score_contract import Row
from rayapp.serve.settings import ServeSettings
from rayapp.storage.uris import open_store

log = logging.getLogger("ray.serve.imaginet")
_EVERY_S = 60.0


class Desk(Protocol):
    """Where replicas report, and ask."""

    async def note(self, answered: Sequence[Answered]) -> None:
        """Count requests, and the rows that detectors answered."""

    async def metrics(self) -> str:
        """All counts in Prometheus' text format."""

    async def submit(self, images: Sequence[str], detector: str, stability: str, token: str) -> Row:
        """As `Batches`, and so what follows."""

    async def describe(self, name: str, token: str) -> Row:
        """How a batch stands."""

    async def scores(self, name: str, token: str) -> bytes:
        """scores.csv of a batch."""

    async def cancel(self, name: str, token: str) -> Row:
        """Stop a batch."""


@dataclass(frozen=True)
class DeskSettings:
    """What the desk needs to know of the service's settings."""

    output: str
    detectors: Mapping[str, str]
    roots: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    keep: str | None = None
    keep_hours: float = 24.0

    @classmethod
    def of(cls, settings: ServeSettings) -> DeskSettings:
        """Of a whole service's."""
        options = ["--precision", settings.precision, "--threads", f"{settings.threads}"]
        if settings.gpus_per_worker:
            options += ["--gpus-per-worker", f"{settings.gpus_per_worker}"]
        if settings.trust_list:
            options += ["--trust-list", settings.trust_list]
        return cls(
            settings.output,
            dict(zip(settings.called, settings.detector, strict=True)),
            settings.batch_roots,
            tuple(options),
            settings.keep,
            settings.keep_hours,
        )


class OneDesk:
    """The desk itself; counts of traffic are put down every minute, and when it closes."""

    def __init__(self, settings: DeskSettings) -> None:
        self._requests = RequestCounts()
        self._traffic: dict[str, Traffic] = {}
        self._lock = threading.Lock()
        self._store = open_store(settings.output)
        self._kept = KeptImages(settings.keep, settings.keep_hours) if settings.keep else None
        self._batches = Batches(
            f"{settings.output}/batches", settings.roots, settings.detectors, settings.options
        )
        self._changed: set[str] = set()
        self._over = threading.Event()
        threading.Thread(target=self._every_minute, daemon=True).start()

    async def note(self, answered: Sequence[Answered]) -> None:
        """Count requests, and the rows that detectors answered."""
        for one in answered:
            self._requests.add(one)
        await asyncio.to_thread(self._count, [one for one in answered if one.rows])

    async def metrics(self) -> str:
        """All counts in Prometheus' text format."""
        by_detector: dict[str, Traffic] = {}
        with self._lock:
            for one in self._traffic.values():  # of each calibration; samples are named by detector
                whole = by_detector.setdefault(one.detector, Traffic(one.detector))
                whole.merge(Traffic(one.detector, days=one.days))
        parts = [one.prometheus() for one in by_detector.values()]
        return self._requests.prometheus() + joined(parts)

    async def submit(self, images: Sequence[str], detector: str, stability: str, token: str) -> Row:
        """Put a batch on the list."""
        return await asyncio.to_thread(self._batches.submit, images, detector, stability, token)

    async def describe(self, name: str, token: str) -> Row:
        """How a batch stands."""
        return await asyncio.to_thread(self._batches.describe, name, token)

    async def scores(self, name: str, token: str) -> bytes:
        """scores.csv of a batch."""
        return await asyncio.to_thread(self._batches.scores, name, token)

    async def cancel(self, name: str, token: str) -> Row:
        """Stop a batch."""
        return await asyncio.to_thread(self._batches.cancel, name, token)

    def close(self) -> None:
        """Put down what was counted; stop what runs."""
        if not self._over.is_set():
            self._over.set()
            self._batches.close()
            self._put_down()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at the end of the process, parts may be gone
            self.close()

    def _count(self, answered: Sequence[Answered]) -> None:
        with self._lock:
            for one in answered:
                none = Traffic(one.detector["hash"], one.detector["counted_as"])
                key = traffic_key(none)
                if key not in self._traffic:
                    self._traffic[key] = self._known(key) or none
                for row in one.rows:
                    self._traffic[key].add({**row, "reason": next(iter(row["reasons"]), "")})
                self._changed.add(key)

    def _known(self, key: str) -> Traffic | None:
        """The counts of before."""
        there = self._store.stat(key)
        return Traffic.from_json(self._store.get(key), self._store.uri(key)) if there else None

    def _put_down(self) -> None:
        with self._lock:
            texts = {key: self._traffic[key].to_json() for key in self._changed}
            self._changed.clear()
        try:
            while texts:
                key = next(iter(texts))
                self._store.put(key, texts[key].encode())
                del texts[key]
        finally:  # what could not be put down is tried again
            with self._lock:
                self._changed |= texts.keys()

    def _every_minute(self) -> None:
        while not self._over.wait(_EVERY_S):
            for work in (self._put_down, *([self._kept.sweep] if self._kept else [])):
                try:  # it is tried again in a minute
                    work()
                except Exception as error:  # noqa: BLE001 - neither ends the other, whatever the cause
                    log.error("%s: %s", work.__name__.strip("_"), error)
