"""What the progress line says of each source: images, bytes a second, time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rayapp.run.record import duration

if TYPE_CHECKING:
    from rayapp.download.fetch_task import Done
    from rayapp.download.source_plan import SourcePlan

_TURN_S = 3.0


@dataclass
class _Source:
    wanted: int
    done: int
    num_bytes: int = 0
    since_s: float | None = None  # its first result: what came before is no rate
    base: int = 0


class SourceRates:
    """Counts per source, as its tasks report them.

    Args:
        plans: of all sources; what is present or known to be missing counts as done.
        clock: seconds.
    """

    def __init__(self, plans: Sequence[SourcePlan], clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._start_s = clock()
        self._sources = {
            plan.source: _Source(plan.num_wanted, plan.num_present + plan.num_missing)
            for plan in plans
        }
        self.num_bytes = 0

    def add(self, done: Done) -> None:
        """Count what a task did."""
        source = self._sources[done.source]
        source.done += done.num_done
        if source.since_s is None:
            source.since_s, source.base = self._clock(), source.done
        source.num_bytes += done.num_bytes
        self.num_bytes += done.num_bytes

    def note(self) -> str:
        """`95.1 MB/s · coco 3,000/15,000 12.1 MB/s 4 min 05 s left · …`: sources under way.

        They take turns at the front, so that a narrow terminal shows each of them.
        """
        now = self._clock()
        active = [(n, s) for n, s in self._sources.items() if s.since_s and s.done < s.wanted]
        turn = int(now / _TURN_S) % len(active) if active else 0
        parts = [_rate(self.num_bytes, now - self._start_s)]
        parts += [_describe(name, source, now) for name, source in active[turn:] + active[:turn]]
        return " · ".join(parts)


def _describe(name: str, source: _Source, now: float) -> str:
    spent_s = now - (source.since_s or now)
    text = f"{name} {source.done:,}/{source.wanted:,}"
    if spent_s <= 0 or source.done == source.base:
        return text
    left_s = (source.wanted - source.done) * spent_s / (source.done - source.base)
    return f"{text} {_rate(source.num_bytes, spent_s)} {duration(left_s)} left"


def _rate(num_bytes: int, seconds: float) -> str:
    return f"{num_bytes / 1e6 / max(seconds, 1e-3):,.1f} MB/s"
