"""Counts of scored images by day (UTC): logits, formats, sizes, what files declare, verdicts.

No image, no name and no time of day is kept, only how many: what several workers or replicas
counted adds up exactly, in any order. A day takes at most 12 formats × 8 sizes × 258 bins.

A logit is counted between fixed edges, `sinh(k / 16) / 4` for k from -128 to 128: steps of 1/64
around 0 and of a sixteenth of the logit's size further out, up to ±373, and two open ends.
"""

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from math import isnan, sinh
from typing import Any, Self

import numpy as np
import pyarrow as pa

from rayapp.config.errors import UserError
from rayapp.dataset.declared.declaration import KINDS, NOTHING
from rayapp.dataset.manifest import STATUS_OK
from rayapp.models.verdicts import UNCALIBRATED, Judge

EDGES = tuple(sinh(k / 16) / 4 for k in range(-128, 129))
NUM_BINS = len(EDGES) + 1  # the first is all below the first edge, the last all from the last on
NOT_SCORED, OTHER = "not scored", "other"
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF", "JXL", "JPEG2000")
SIDES = (128, 256, 512, 1024, 2048, 4096)  # px, of the shorter side
SIZES = (
    f"below {SIDES[0]} px",
    *(f"{low}–{high - 1} px" for low, high in pairwise(SIDES)),
    f"from {SIDES[-1]} px",
)
# How a reason begins, without what it says of this one image, and what it is counted as.
_REASONS = {
    "too few pixels": "too few pixels",
    "nothing but": "nothing to judge by",
    "the probability lies in": "in the unsure band",
    "depends on delivery": "depends on delivery",
    "as the file declares": "as the file declares",
    UNCALIBRATED: UNCALIBRATED,
}
_KIND = "imaginet traffic, version 1"
_SHOWN_EDGES = range(0, len(EDGES), 8)  # of them /metrics has every eighth
Group = tuple[str, str]  # format, size


def today() -> str:
    """The day, in UTC: `2026-11-29`."""
    return datetime.now(UTC).date().isoformat()


def decided_by(judge: Judge) -> str:
    """What turns logits into verdicts: verdicts that it gave count together, and with no others."""
    calibration = judge.calibration.hash[:16] if judge.calibration else UNCALIBRATED
    own = f" at {judge.threshold:.6g}" if judge.threshold is not None else ""
    return f"{calibration}{own}" + f", {judge.trust_declared}" * (judge.trust_declared != "none")


@dataclass
class Counts:
    """The images of one format and size: logits by bin, and verdicts."""

    logits: Counter[int] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)


@dataclass
class Day:
    """One day: counts of each format and size, of kinds that files declare, and of reasons."""

    groups: dict[Group, Counts] = field(default_factory=dict)
    declared: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def merge(self, other: Self) -> None:
        """As if what the other one saw had come by here."""
        for group, counts in other.groups.items():
            own = self.groups.setdefault(group, Counts())
            own.logits.update(counts.logits)
            own.verdicts.update(counts.verdicts)
        self.declared.update(other.declared)
        self.reasons.update(other.reasons)

    def total(self) -> Counts:
        """Over all formats and sizes."""
        whole = Counts()
        for counts in self.groups.values():
            whole.logits.update(counts.logits)
            whole.verdicts.update(counts.verdicts)
        return whole


@dataclass
class Traffic:
    """Counts by day of what one detector scored.

    Args:
        detector: its hash; logits of another mean something else.
        decided: `decided_by` of its judge; verdicts of another mean something else.
        days: day (UTC) → counts.
        until: of a followed folder the time of the last image counted, ISO 8601; else empty.
    """

    detector: str = ""
    decided: str = ""
    days: dict[str, Day] = field(default_factory=dict)
    until: str = ""

    def add(self, row: Mapping[str, Any], day: str = "") -> None:
        """Count one image.

        Args:
            row: of scores (`logit` or `logits`, `format`, `width`, `height`, `declared`, `status`),
                with its `verdict` and `reason`; what is missing counts as unknown.
            day: when it was scored, UTC; today if empty.
        """
        logit = row.get("logit")
        if logit is None and row.get("logits"):
            logit = max(row["logits"])
        if row.get("status", STATUS_OK) != STATUS_OK or (logit is not None and isnan(logit)):
            logit = None
        whole = self.days.setdefault(day or today(), Day())
        counts = whole.groups.setdefault(group_of(row), Counts())
        if logit is not None or row.get("declared"):
            whole.declared[_known(row.get("declared") or NOTHING, KINDS)] += 1
        if logit is None:
            counts.verdicts[NOT_SCORED] += 1
            return
        counts.logits[bisect_right(EDGES, logit)] += 1
        counts.verdicts[_without_mark(row.get("verdict") or OTHER)] += 1
        if reason := row.get("reason"):
            whole.reasons[reason_kind(reason)] += 1

    def add_table(self, scores: pa.Table, judge: Judge, day: str = "") -> None:
        """Count every row of a score table, with the verdicts that the judge gives."""
        rows, logits_N, verdicts = judge.table(scores)
        found = dict(zip(rows.tolist(), range(len(rows)), strict=True))
        names = {"format", "width", "height", "declared", "status"} & set(scores.column_names)
        for at, row in enumerate(scores.select(sorted(names)).to_pylist()):
            if (place := found.get(at)) is not None:
                row |= {
                    "logit": float(logits_N[place]),
                    "verdict": verdicts.words[place],
                    "reason": verdicts.reasons[place],
                }
            self.add(row, day)

    def merge(self, other: Self) -> None:
        """As if what the other one saw had come by here.

        Raises:
            ValueError: it counts another detector, or other decisions.
        """
        if (self.detector, self.decided) != (other.detector, other.decided):
            raise ValueError("counts of another detector or calibration do not add up with these")
        self.until = max(self.until, other.until)
        for day, counts in other.days.items():
            self.days.setdefault(day, Day()).merge(counts)

    def whole(self, days: Iterable[str] = ()) -> Day:
        """Some days as one; all if none is named."""
        total = Day()
        for day in days or self.days:
            total.merge(self.days[day])
        return total

    def to_json(self) -> str:
        """As text; equal counts give equal text."""
        days = {day: _written(self.days[day]) for day in sorted(self.days)}
        fields: dict[str, Any] = {"kind": _KIND, "detector": self.detector, "decided": self.decided}
        fields |= {"until": self.until, "days": days}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes, name: str = "counts") -> Self:
        """The counts in a text; `name` is what a fault is told of.

        Raises:
            UserError: it holds none.
        """
        try:
            found = json.loads(text)
            if found["kind"] != _KIND:
                raise KeyError("kind")
            days = {str(day): _read(one) for day, one in found["days"].items()}
            detector, decided, until = (str(found[k]) for k in ("detector", "decided", "until"))
            return cls(detector, decided, days, until)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{name}: holds no counts of traffic") from None

    def prometheus(self) -> str:
        """All days together, in Prometheus's text format; the logits' sum is by middles of bins."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        day = self.whole()
        total, of = day.total(), f'detector="{self.detector[:12]}"'
        yield from _counter("verdicts", "Images by verdict", of, ("verdict",), total.verdicts)
        sizes = {group: sum(one.verdicts.values()) for group, one in day.groups.items()}
        yield from _counter("images", "Images by format and size", of, ("format", "size"), sizes)
        yield from _counter("declared", "Images by what they declare", of, ("kind",), day.declared)
        yield from _counter("reasons", "Verdicts by what limits them", of, ("reason",), day.reasons)
        yield "# HELP imaginet_logit Logits of scored images."
        yield "# TYPE imaginet_logit histogram"
        below = np.cumsum(dense(total.logits)).tolist()
        for at in _SHOWN_EDGES:
            yield f'imaginet_logit_bucket{{{of},le="{EDGES[at]:.6g}"}} {below[at]}'
        yield f'imaginet_logit_bucket{{{of},le="+Inf"}} {below[-1]}'
        middles = np.interp(np.arange(NUM_BINS) - 0.5, np.arange(len(EDGES)), EDGES)
        yield f"imaginet_logit_sum{{{of}}} {float(dense(total.logits) @ middles):.6g}"
        yield f"imaginet_logit_count{{{of}}} {below[-1]}"


def dense(logits: Mapping[int, int]) -> np.ndarray:
    """Counts by bin, int64 [NUM_BINS]."""
    found = np.zeros(NUM_BINS, np.int64)
    for at, count in logits.items():
        found[at] = count
    return found


def group_of(row: Mapping[str, Any]) -> Group:
    """Format and size of an image."""
    width, height = row.get("width"), row.get("height")
    size = SIZES[bisect_right(SIDES, min(width, height))] if width and height else OTHER
    return _known(row.get("format") or OTHER, FORMATS), size


def reason_kind(reason: str) -> str:
    """A reason as it is counted."""
    return next((kind for start, kind in _REASONS.items() if reason.startswith(start)), OTHER)


def _known(word: str, words: Collection[str]) -> str:
    return word if word in words else OTHER


def _without_mark(verdict: str) -> str:
    return verdict.removesuffix(f" ({UNCALIBRATED})")


def _written(day: Day) -> dict[str, Any]:
    groups = {
        "|".join(group): {
            "logits": {str(at): counts.logits[at] for at in sorted(counts.logits)},
            "verdicts": dict(sorted(counts.verdicts.items())),
        }
        for group, counts in sorted(day.groups.items())
    }
    declared, reasons = (dict(sorted(one.items())) for one in (day.declared, day.reasons))
    return {"groups": groups, "declared": declared, "reasons": reasons}


def _read(found: Mapping[str, Any]) -> Day:
    groups: dict[Group, Counts] = {}
    for name, one in found["groups"].items():
        kind, size = name.split("|")
        logits = Counter({int(at): int(count) for at, count in one["logits"].items()})
        if any(not 0 <= at < NUM_BINS for at in logits):
            raise ValueError("a bin that there is not")
        groups[kind, size] = Counts(logits, _counted(one["verdicts"]))
    return Day(groups, _counted(found["declared"]), _counted(found["reasons"]))


def _counted(found: Mapping[str, Any]) -> Counter[str]:
    return Counter({str(name): int(count) for name, count in found.items()})


def _counter(
    name: str, says: str, of: str, labels: tuple[str, ...], counts: Mapping[Any, int]
) -> Iterator[str]:
    yield f"# HELP imaginet_{name}_total {says}."
    yield f"# TYPE imaginet_{name}_total counter"
    for key in sorted(counts):
        words = (key,) if isinstance(key, str) else key
        named = ",".join(f'{k}="{_escaped(v)}"' for k, v in zip(labels, words, strict=True))
        yield f"imaginet_{name}_total{{{of},{named}}} {counts[key]}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
