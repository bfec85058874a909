"""The quota governors of the whole cluster, in one actor, and the gate by which workers ask it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import ray

from rayapp.download.origins.access import scheme_of
from rayapp.download.origins.catalogue import Catalogue
from rayapp.download.origins.faults import Action, Fault
from rayapp.download.origins.governor import Governor, Grant, apply, share

_LEASE_S = 1.0
_LEASE_REQUESTS = 64


@ray.remote(num_cpus=0)
class Quotas:
    """The governors of all origins, in one actor."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._governors: dict[str, Governor] = {}

    def _of(self, origin: str) -> Governor:
        quota = self._catalogue.origin(scheme_of(origin) if "://" in origin else origin).quota()
        return self._governors.setdefault(origin, Governor(quota))

    def lease(self, origin: str, file: str, count: int) -> Grant:
        """`Governor.lease`."""
        return self._of(origin).lease(file, count, time.monotonic())

    def report(self, origin: str, file: str, fault: Fault | None) -> None:
        """A fault, or None for a success."""
        if fault is None:
            self._of(origin).served()
        else:
            apply(self._of(origin), file, fault, time.monotonic())

    def lookup(self, origin: str, key: str, stale: str) -> tuple[str, bool]:
        """`Governor.lookup`."""
        return self._of(origin).lookup(key, stale, time.monotonic())

    def publish(self, origin: str, key: str, value: str) -> None:
        """`Governor.publish`."""
        self._of(origin).publish(key, value)


class RayGate:
    """A `Gate` that asks the cluster's governor; without a rate it asks for many at once."""

    def __init__(self, quotas: Any, origin: str, metered: bool):
        self._quotas, self._origin = quotas, origin
        self._count = 1 if metered else _LEASE_REQUESTS
        self._left = 0
        self._until = 0.0
        self._struck = False
        self._lock = threading.Lock()

    def admit(self, file: str) -> None:
        """Return when one request for `file` may be sent; raises Fault when it is parked."""
        wait_s = 0.0
        with self._lock:
            if self._left == 0 or time.monotonic() > self._until:
                grant = ray.get(self._quotas.lease.remote(self._origin, file, self._count))
                if grant.parked:
                    raise Fault(Action.PARK, grant.parked)
                self._left = grant.num_requests
                self._until = time.monotonic() + grant.wait_s + _LEASE_S
                wait_s = grant.wait_s
            self._left -= 1
        if wait_s:
            time.sleep(wait_s)

    def served(self) -> None:
        """Tell of a success after a refusal; the others are of no interest."""
        if self._struck:
            self._struck = False
            self._quotas.report.remote(self._origin, "", None)

    def report(self, file: str, fault: Fault) -> None:
        """Tell of a refusal; what was leased before it is void."""
        self._struck = True
        self._left = 0
        ray.get(self._quotas.report.remote(self._origin, file, fault))

    def share(self, key: str, stale: str, mint: Callable[[], str]) -> str:
        """The value the whole cluster shares under `key`."""
        return share(
            lambda k, s: ray.get(self._quotas.lookup.remote(self._origin, k, s)),
            lambda k, v: ray.get(self._quotas.publish.remote(self._origin, k, v)),
            key,
            stale,
            mint,
        )
