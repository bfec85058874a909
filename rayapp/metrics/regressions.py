"""Known cases under a detector, beside what the last one said of them: which changed sides."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from pydantic import Field

from rayapp.config.settings import Settings

Change = Literal[
    "broke", "mended", "stays wrong", "stays right", "new, wrong", "new, right", "not scored"
]
CHANGES: tuple[Change, ...] = get_args(Change)
FAILED: tuple[Change, ...] = ("broke", "not scored")
CASE_COLUMNS = ("path", "change", "known", "before", "now", "p_before", "p_now", "root")


class KnownCase(Settings):
    """An image of which it is known what it is, and what two detectors say of it."""

    path: str = Field(description="of the image")
    root: str = Field("", description="where the path starts")
    known: Literal["real", "synthetic"] = Field(description="what it is")
    before: str = Field("", description="the last detector's verdict; empty: not known")
    now: str = Field("", description="this detector's verdict; empty: not scored")
    p_before: float | None = Field(None, description="the last detector's probability")
    p_now: float | None = Field(None, description="this detector's probability")
    error: str = Field("", description="why it could not be scored")

    @property
    def change(self) -> Change:
        """How it fares: right is a verdict that says what it is; `unsure` is not."""
        if not self.now:
            return "not scored"
        right = self.now == self.known
        if not self.before:
            return "new, right" if right else "new, wrong"
        if right:
            return "stays right" if self.before == self.known else "mended"
        return "broke" if self.before == self.known else "stays wrong"


class Regressions(Settings):
    """All known cases under one detector."""

    detector: str = Field(description="name of the detector")
    against: str = Field("", description="what it is compared with; empty: with nothing")
    counts: dict[str, int] = Field(description="number of cases by what became of them")
    cases: list[KnownCase] = Field(description="the first of those that are not right, or were not")
    left_out: int = Field(0, description="marked unclear: of these nothing is known")
    seen: int = Field(0, description="cases on which the detector was trained or calibrated")
    file: str = Field(description="CSV file of all cases, beside this one")

    @property
    def num_cases(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    @property
    def failed(self) -> bool:
        """Whether a case broke or could not be scored: evaluate then ends with code 3."""
        return any(self.counts.get(change) for change in FAILED)

    def word(self, change: Change) -> str:
        """A change in words; where nothing is compared, all cases are new."""
        return change if self.against else change.removeprefix("new, ")

    @property
    def counted(self) -> str:
        """The counts in one line."""
        cases = "1 known case" if self.num_cases == 1 else f"{self.num_cases:,} known cases"
        named = []
        for change in (one for one in CHANGES if one in self.counts):
            word, count = self.word(change), self.counts[change]
            named.append(f"{count:,} {word if count == 1 else word.replace('stays', 'stay')}")
        return f"{cases}: {'; '.join(named)}"

    @property
    def remarks(self) -> list[str]:
        """What limits the counts."""
        found = []
        if self.seen:
            found.append(
                f"{self.seen:,} of the cases are in the lists that the detector was trained or "
                "calibrated on: there its answers show no skill"
            )
        if self.left_out:
            found.append(f"{self.left_out:,} marked unclear are left out")
        return found


def counts_of(cases: Sequence[KnownCase]) -> dict[str, int]:
    """How many there are by what became of them, the worst first."""
    counted = Counter(one.change for one in cases)
    return {change: counted[change] for change in CHANGES if counted[change]}


def worst_first(cases: Iterable[KnownCase]) -> list[KnownCase]:
    """Broken ones first, then mended, then others; among them those that moved most."""

    def key(one: KnownCase) -> tuple[int, float, str]:
        moved = abs((one.p_now or 0.0) - (one.p_before or 0.0)) if one.before and one.now else 0.0
        return CHANGES.index(one.change), -moved, one.path

    return sorted(cases, key=key)
