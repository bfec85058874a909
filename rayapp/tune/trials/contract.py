"""What runs a trial: the contract between the search and the work of a trial."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rayapp.tune.goals import Figures


class OutOfTime(Exception):
    """The trial stops where it is, to be gone on with by the next search."""


@dataclass(frozen=True)
class Outcome:
    """What a trial found: figures, those of each slice by name, and facts such as epochs."""

    figures: Figures
    slices: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialContext:
    """One trial's turn on a worker.

    `report(epoch, figures)` hands in what the trial has reached, where it may be stopped early;
    `deadline` is when it must end, in seconds since 1970, or infinity.
    """

    number: int
    values: Mapping[str, Any]
    report: Callable[[int, Figures], None]
    deadline: float

    def check_time(self) -> None:
        """End here where the deadline is past.

        Raises:
            OutOfTime: it is.
        """
        if time.time() >= self.deadline:
            raise OutOfTime


class Work(Protocol):
    """The work of trials; picklable. What it raises is the reason for which a trial failed."""

    def run(self, trial_context: TrialContext) -> Outcome:
        """One trial to its end."""

    def stopped(self, number: int) -> None:
        """Remove what only going on with a trial would need; it was stopped early or failed."""
