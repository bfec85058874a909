"""One quota governor an origin: a token bucket in the origin's own units, pauses and parking.

`Governor` is a pure state machine: every method takes the time. `LocalGate` puts it behind a lock
for the threads of one process; the pipeline puts it into one actor for the whole cluster.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from rayapp.download.origins.faults import Action, Fault

EVERY_FILE = "*"
PARK_S = 6 * 3600.0  # Drive's quota of a file lasts about a day and says nothing of its end
_MINT_S = 60.0  # how long one worker may take to mint what all share


@dataclass(frozen=True)
class Quota:
    """What an origin allows. `units_per_s` None: no rate is known, only pauses are kept."""

    units_per_s: float | None = None
    request_units: float = 1.0  # what one download costs
    burst_units: float = 1.0


class Grant(NamedTuple):
    """`num_requests` requests may be sent, `wait_s` from now; none when the file is parked."""

    num_requests: int
    wait_s: float
    parked: str = ""


@dataclass
class Governor:
    """Grants requests of one origin so that its quota is used and never exceeded."""

    quota: Quota
    _level: float = 0.0
    _seen_s: float | None = None
    _paused_until: float = 0.0
    _strikes: int = 0
    _parked: dict[str, tuple[float, str]] = field(default_factory=dict)
    _shared: dict[str, str] = field(default_factory=dict)
    _minting: dict[str, float] = field(default_factory=dict)

    def lease(self, file: str, count: int, now: float) -> Grant:
        """Reserve `count` requests for `file`; the wait pays off a debt of the bucket."""
        for key in (file, EVERY_FILE):
            until, reason = self._parked.get(key, (0.0, ""))
            if until > now:
                return Grant(0, 0.0, reason)
        pause_s = max(self._paused_until - now, 0.0)
        rate = self.quota.units_per_s
        if rate is None:
            return Grant(count, pause_s)
        if self._seen_s is None:
            self._level, self._seen_s = self.quota.burst_units, now
        self._level = min(self.quota.burst_units, self._level + (now - self._seen_s) * rate)
        self._seen_s = now
        self._level -= count * self.quota.request_units
        return Grant(count, max(pause_s, -self._level / rate, 0.0))

    def refused(self, wait_s: float | None, now: float) -> None:
        """Pause the whole origin: as long as it asked, else doubling from half a second to 64 s."""
        if self._paused_until > now and wait_s is None:
            return  # the answers to requests already under way are one refusal
        pause_s = wait_s if wait_s is not None else min(0.5 * 2**self._strikes, 64.0)
        self._strikes += 1
        self._paused_until = max(self._paused_until, now + pause_s)

    def served(self) -> None:
        """A request succeeded: the next refusal starts at the short pause again."""
        self._strikes = 0

    def park(self, file: str, reason: str, seconds: float, now: float) -> None:
        """Grant nothing for `file` (`EVERY_FILE`: for the origin) for so long."""
        self._parked[file] = (now + seconds, reason)

    def lookup(self, key: str, stale: str, now: float) -> tuple[str, bool]:
        """(value, whether the caller mints it): one minter at a time, others ask again later."""
        value = self._shared.get(key, "")
        if value and value != stale:
            return value, False
        if self._minting.get(key, 0.0) > now:
            return "", False
        self._minting[key] = now + _MINT_S
        return "", True

    def publish(self, key: str, value: str) -> None:
        """Share what was minted; an empty value frees the mint after a failure."""
        self._minting.pop(key, None)
        if value:
            self._shared[key] = value


class Gate(Protocol):
    """What a transport asks before and tells after each request."""

    def admit(self, file: str) -> None:
        """Return when one request for `file` may be sent; raises Fault when it is parked."""

    def served(self) -> None:
        """Tell of a success."""

    def report(self, file: str, fault: Fault) -> None:
        """Tell of a refusal or of an exhausted quota."""

    def share(self, key: str, stale: str, mint: Callable[[], str]) -> str:
        """The value all workers share under `key`, minted once when there is none but `stale`."""


class LocalGate:
    """A `Gate` for the threads of one process."""

    def __init__(self, quota: Quota = Quota(), clock: Callable[[], float] = time.monotonic):
        self.governor = Governor(quota)
        self._clock = clock
        self._lock = threading.Lock()

    def admit(self, file: str) -> None:
        """Return when one request for `file` may be sent; raises Fault when it is parked."""
        with self._lock:
            grant = self.governor.lease(file, 1, self._clock())
        if grant.parked:
            raise Fault(Action.PARK, grant.parked)
        if grant.wait_s > 0:
            time.sleep(grant.wait_s)

    def served(self) -> None:
        """Tell of a success."""
        self.governor.served()

    def report(self, file: str, fault: Fault) -> None:
        """Tell of a refusal or of an exhausted quota."""
        with self._lock:
            apply(self.governor, file, fault, self._clock())

    def share(self, key: str, stale: str, mint: Callable[[], str]) -> str:
        """The value all threads share under `key`."""
        return share(self.governor_lookup, self.governor.publish, key, stale, mint)

    def governor_lookup(self, key: str, stale: str) -> tuple[str, bool]:
        """`Governor.lookup` at this gate's time."""
        with self._lock:
            return self.governor.lookup(key, stale, self._clock())


def apply(governor: Governor, file: str, fault: Fault, now: float) -> None:
    """Change `governor` by what a fault of `file` says about the origin."""
    if fault.action is Action.RETRY:
        governor.refused(fault.wait_s, now)
    elif fault.action in (Action.PARK, Action.PARK_ORIGIN):
        key = file if fault.action is Action.PARK else EVERY_FILE
        governor.park(key, fault.reason, fault.wait_s or PARK_S, now)


def share(
    lookup: Callable[[str, str], tuple[str, bool]],
    publish: Callable[[str, str], None],
    key: str,
    stale: str,
    mint: Callable[[], str],
) -> str:
    """Look `key` up until a value is there, minting it where it is this caller's turn."""
    while True:
        value, ours = lookup(key, stale)
        if value:
            return value
        if ours:
            minted = ""
            try:
                minted = mint()
            finally:
                publish(key, minted)
            return minted
        time.sleep(0.05)
