"""Lines of which all are counted and the first few named, whatever the order they come in."""

import heapq
from dataclasses import dataclass, field


@dataclass
class FirstLines:
    """Counts lines and keeps those with the `most` smallest numbers."""

    most: int
    count: int = 0
    _kept: list[tuple[int, str]] = field(default_factory=list)

    def add(self, number: int, line: str) -> None:
        """One line; `number` is that of its row."""
        self.count += 1
        self._keep([(number, line)])

    def merge(self, other: "FirstLines") -> None:
        """As if the other's lines had come by here."""
        self.count += other.count
        self._keep(other._kept)

    def _keep(self, fresh: list[tuple[int, str]]) -> None:
        self._kept = heapq.nsmallest(self.most, [*self._kept, *fresh])

    @property
    def lines(self) -> list[str]:
        """The first, in the order of their rows."""
        return [line for _, line in self._kept]
