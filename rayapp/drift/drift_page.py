"""The page of drift: the outcome, the picture, each comparison, what crosses, and what was read."""

import numpy as np
from scipy import special

from rayapp.drift.differences import (
    DECLARED,
    FORMATS,
    REASONS,
    SIZES,
    VERDICTS,
    Comparison,
    largest_changes,
)
from rayapp.drift.known_reals import KnownReals
from rayapp.drift.sides import Sides
from rayapp.drift.verdict import NO_DRIFT, how, outcome, reals_line, what_to_do
from rayapp.metrics.measure import Measure
from rayapp.metrics.traffic import EDGES, NOT_SCORED, Traffic, dense
from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.calibration.decisions import lower_bound, upper_bound
from rayapp.models.verdicts import SYNTHETIC
from rayapp.pages.blocks import (
    Block,
    Figure,
    Figures,
    Highlight,
    Highlights,
    KeyValues,
    Notice,
    Prose,
    Table,
    Value,
)
from rayapp.pages.page import Page, Section
from rayapp.pages.shift_charts import days_figure, logits_figure

_TAIL = 0.975


def drift_page(
    sides: Sides,
    found: Comparison,
    reals: KnownReals | None,
    calibration: Calibration | None,
    facts: dict[str, Value],
) -> Page:
    """The page; `calibration` is the detector's, where it is known."""
    word = outcome(found, reals)
    said = [one for one in (word, what_to_do(word)) if one]
    text = " ".join(f"{one[:1].upper()}{one[1:]}." for one in said)
    result: list[Block] = [Highlights(_highlights(found, reals)), _notice(text, word)]
    if reals:
        line = reals_line(reals)
        result.append(Prose(f"{line[:1].upper()}{line[1:]}."))
        result += [Prose(f"{warning}.") for warning in reals.warnings]
    figures = [_logits(sides, found, calibration)]
    if len(sides.traffic.days) > 1:
        figures.append(_by_day(sides))
    sections = [
        Section("Result", result),
        Section("Scores", [Figures(figures)]),
        Section("Comparisons", [Prose(_with(sides)), _table(found), Prose(how())]),
        *_changes(sides, found),
        Section("How this came about", [KeyValues(facts)]),
    ]
    summary = f"{found.num_scored:,} images of {sides.name}: {word}."
    return Page("Drift", summary, sections)


def _notice(text: str, word: str) -> Notice:
    return Notice(text) if word == NO_DRIFT else Notice(text, "warning")


def _highlights(found: Comparison, reals: KnownReals | None) -> list[Highlight]:
    items = [
        Highlight("images", f"{found.num_scored:,}", f"{found.num_not_scored:,} not scored"),
        Highlight("comparisons that differ", f"{len(found.found)} of {len(found.shifts)}"),
    ]
    for one in found.verdicts:
        remark = "" if one.expected is None else f"{one.expected:.1%} by the reference"
        value = Measure(one.observed, *one.interval)
        items.append(Highlight(f"called {one.verdict}", value, remark, ".1%"))
    if reals:
        promised = "" if reals.promised is None else f"promised {reals.promised:.2%}"
        value = Measure(reals.rate, *reals.interval)
        items.append(Highlight("false positives", value, promised, ".2%"))
    return items


def _with(sides: Sides) -> str:
    return f"{sides.name} is compared with {sides.compared_with}."


def _table(found: Comparison) -> Table:
    columns = ("compared", "images", "reference", "effect", "p (of all)", "differs")
    rows = [
        (one.name, one.num, one.num_reference, one.effect, one.p_value, one.found)
        for one in found.shifts
    ]
    return Table(columns, rows, formats={"p (of all)": ".2g"})


def _logits(sides: Sides, found: Comparison, calibration: Calibration | None) -> Figure:
    sources = dict(sides.reference) | ({sides.other.name: sides.other.day} if sides.other else {})
    classes = {name: dense(one.total().logits) for name, one in sources.items()}
    references = {name: counts / counts.sum() for name, counts in classes.items()}
    if (share := found.share_synthetic) is not None:
        real, synthetic = (references[name] for name in sides.reference)
        name = f"calibration, {share:.0%} synthetic"
        references = {name: (1 - share) * real + share * synthetic, **references}
    marks = {}
    if calibration:
        middles = np.asarray(EDGES)
        p = calibration.apply(middles)
        if np.all(np.diff(p) >= 0):  # else no single logit is the threshold
            wanted = special.logit(np.clip(calibration.threshold, 1e-12, 1 - 1e-12))
            rising = special.logit(np.clip(p, 1e-12, 1 - 1e-12))
            marks["threshold"] = float(np.interp(wanted, rising, middles))
    return logits_figure(
        dense(sides.day.total().logits).astype(np.float64), references, EDGES, marks, sides.name
    )


def _by_day(sides: Sides) -> Figure:
    """Share that is called synthetic."""
    days = {}
    for day in sorted(sides.traffic.days):
        share = _share(sides.traffic, day)
        if share is not None:
            days[day] = share
    return days_figure(days, " ".join(sides.days), f"Called {SYNTHETIC} by day")


def _share(traffic: Traffic, day: str) -> tuple[float, float, float] | None:
    verdicts = traffic.days[day].total().verdicts
    total, num = verdicts.total() - verdicts[NOT_SCORED], verdicts[SYNTHETIC]
    if not total:
        return None
    return num / total, lower_bound(num, total, _TAIL), upper_bound(num, total, _TAIL)


def _changes(sides: Sides, found: Comparison) -> list[Section]:
    """Of each comparison of words that differs, the words that grew most."""
    rows: list[tuple[str, str, float]] = []
    for one in found.found:
        kind = one.name.removesuffix(found.ending)
        other = sides.other if one.name.endswith(found.ending) else None
        if kind in (FORMATS, SIZES, DECLARED, REASONS, VERDICTS):
            classes = [other.day] if other else list(sides.reference.values())
            grown = largest_changes(sides.day, classes, kind).items()
            rows += [(one.name, word, gap) for word, gap in grown if gap > 0]
    for (kind, size), num in found.unlike.items():
        rows.append(("format and size", f"{kind}, {size}", num / found.num_scored))
    if not rows:
        return []
    table = Table(
        ("of", "what", "more than the reference"),
        rows[:20],
        formats={"more than the reference": ".1%"},
    )
    return [Section("What is more frequent", [table])]
