"""The files that evaluate writes beside metrics.json: CSV tables, and the scored images."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from rayapp.config.paths import slug
from rayapp.metrics.binary import FIGURES
from rayapp.metrics.evaluation import difference
from rayapp.models.calibration.decisions import percent

if TYPE_CHECKING:
    from rayapp.dataset.suites import Suite
    from rayapp.evaluate.judge import Judged
    from rayapp.metrics.evaluation import Evaluation, Slice
    from rayapp.metrics.false_positives import FalsePositives
    from rayapp.models.calibration.decisions import Rate

SHORT = {
    "balanced_accuracy": "balanced accuracy",
    "recall": "accuracy",
    "roc_auc": "ROC AUC",
    "false_positive_rate": "false-positive rate",
    "accuracy_synthetic": "recall",
}


def as_csv(evaluations: Iterable[Evaluation]) -> str:
    """Every slice of every suite and detector with all figures and their intervals."""
    figures = [*FIGURES, "recall", "accuracy"]
    ends = [name for figure in figures for name in (figure, f"{figure}_low", f"{figure}_high")]
    lines: list[list[object]] = [
        [
            "suite",
            "protocol",
            "detector",
            "test_set",
            "column",
            "slice",
            "num_real",
            "num_synthetic",
            *ends,
        ]
    ]
    for one in evaluations:
        for part in [*one.slices, *([one.mean] if one.mean else [])]:
            found = [part.figures.get(name) for name in figures]
            none = (None, None, None)
            values = [v for f in found for v in ((f.value, f.low, f.high) if f else none)]
            lines.append(
                [
                    one.suite,
                    one.protocol,
                    one.detector_name,
                    one.test_set,
                    part.column,
                    part.name,
                    part.num_real,
                    part.num_synthetic,
                    *map(_exact, values),
                ]
            )
    return _written(lines)


def _exact(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def published_tables(evaluations: Iterable[Evaluation], suites: Sequence[Suite]) -> dict[str, str]:
    """Each table in the layout of the original's CSV files: Model, ACC, AUC, a row for the mean."""
    headings = {suite.name: suite.heading for suite in suites}
    found = {}
    for one in evaluations:
        names = map(SHORT.get, one.headline) if one.of_one_class else ("ACC", "AUC")
        lines: list[list[object]] = [[headings[one.suite], *names]]
        for part in one.table:
            values = [part.figures[name].value for name in one.headline]
            lines.append([part.name, *("" if v is None else f"{v:.4f}" for v in values)])
        found[f"tables/{one.suite}/{slug(one.detector_name)}.csv"] = _written(lines)
    return found


def _written(lines: Iterable[Sequence[object]]) -> str:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows(lines)
    return sink.getvalue()


def evidence_key(suite: str, detector: str) -> str:
    """Where the scored images of an evaluation are kept."""
    return f"evidence/{suite}/{slug(detector)}.parquet"


def evidence(judged: Judged, root: str | None) -> pa.Table:
    """One row a test image: path, labels, score and probability as measured, root beside them."""
    test, rows = judged.test, judged.rows
    labels = {name: pa.array(codes, pa.int16()) for name, codes in test.codes.items()}
    table = pa.table(
        {
            "path": rows["path"],
            "root": rows["root"] if root is None else pa.array([root] * rows.num_rows),
            "list": pa.array(judged.items.lists_N, pa.string()),
            **labels,
            "score": pa.array(test.logits_N, pa.float64()),
            "probability": pa.array(test.probabilities_N, pa.float64()),
        }
    )
    return table.combine_chunks()


def as_text(one: Evaluation) -> str:
    """The table for a terminal: both figures with intervals, what was published, the difference.

    Of a set of one class: its one figure, of the whole set first.
    """
    rows = one.slices if one.of_one_class else one.table or one.slices
    known = any(part.published for part in rows)
    head = ["slice"]
    for name in one.headline:
        head += [SHORT[name], *(("published", "difference") if known else ())]
    lines = [head] + [
        [part.name, *(text for name in one.headline for text in _beside(part, name, known))]
        for part in rows
    ]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    notes = [
        "  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)) for line in lines
    ]
    title = f"{one.test_set}: {one.detector_name} ({one.protocol} protocol)"
    remarks = [f"calibration: {one.calibration}", *direction(one), *promised(one)]
    remarks += [note for note in one.notes if note not in one.not_a_test]
    return "\n  ".join([title, *one.not_a_test, *(row.rstrip() for row in notes), *remarks])


def direction(one: Evaluation) -> list[str]:
    """Where the scores run against the labels, in words."""
    if not one.inverted:
        return []
    where = "" if one.inverted[0] == one.whole.name else f" on {', '.join(one.inverted)}"
    return [
        f"WARNING: the scores run against the labels{where} (ROC AUC below 0.5 by more than "
        "chance): check the labels, and that a higher score means synthetic"
    ]


def promised(one: Evaluation) -> list[str]:
    """What was asked of the threshold, what calibration saw, and what these images show."""
    lines, point = [], one.operating_point
    if point is not None and point.fpr is not None:
        lines.append(point.describe()[0])
        here = {rate.slice: rate for rate in one.false_positives}
        before = {rate.slice: rate for rate in point.rates}
        lines += [
            f"  {name}: {_at_calibration(before.get(name))}; {_here(here.get(name), point.fpr)}"
            for name in dict.fromkeys([*before, *here])
        ]
    if one.holds_at is not None:
        text = f"probabilities hold where {percent(one.holds_at)} of the images are synthetic"
        if one.precision is not None:
            text += (
                f"; there, at the rates of these images, {percent(one.precision)} of what is "
                "called synthetic is"
            )
        lines.append(text)
    return lines


def _at_calibration(rate: Rate | None) -> str:
    if rate is None:
        return "no promise, calibration had none"
    bound = "" if rate.bound is None else f"bound {percent(rate.bound)}, "
    return f"{bound}observed {percent(rate.observed)} of {rate.num_real:,}"


def _here(rate: FalsePositives | None, asked: float) -> str:
    if rate is None:
        return "none here"
    text = f"here {percent(rate.observed)} [{percent(rate.low)}, {percent(rate.high)}]"
    more = ": MORE THAN ASKED" if rate.low > asked else ""
    return f"{text} of {rate.num_real:,}{more}"


def _beside(part: Slice, name: str, known: bool) -> list[str]:
    """A figure with its interval; the published one, and the difference marked where inside."""
    figure = part.figures[name]
    text = f"– ({figure.reason})" if figure.value is None else f"{figure.value:.4f}"
    if figure.low is not None:
        text += f" [{figure.low:.4f}, {figure.high:.4f}]"
    if not known:
        return [text]
    found = difference(part, name)
    beside = "" if found is None else f"{found[0]:+.4f}{' (within)' if found[1] else ''}"
    published = part.published.get(name)
    return [text, "" if published is None else f"{published:.4f}", beside]
