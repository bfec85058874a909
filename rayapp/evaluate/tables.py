"""The files that evaluate writes beside metrics.json: CSV tables, and the scored images."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

import pyarrow as pa

from rayapp.evaluate.judge import Judged
from rayapp.metrics.binary import FIGURES
from rayapp.metrics.evaluation import Evaluation
from rayapp.suites import Suite


def as_csv(evaluations: Iterable[Evaluation]) -> str:
    """Every slice of every suite and detector with all figures and their intervals."""
    figures = [*FIGURES, "recall", "accuracy"]
    ends = [name for figure in figures for name in (figure, f"{figure}_low", f"{figure}_high")]
    lines: list[list[object]] = [["suite", "protocol", "detector", "test_set", "column", "slice",
                                  "num_real", "num_synthetic", *ends]]  # fmt: skip
    for one in evaluations:
        for part in [*one.slices, *([one.mean] if one.mean else [])]:
            found = [part.figures.get(name) for name in figures]
            values = [v for f in found for v in ((f.value, f.low, f.high) if f else (None,) * 3)]
            lines.append([one.suite, one.protocol, one.detector_name, one.test_set, part.column,
                          part.name, part.num_real, part.num_synthetic,
                          *("" if value is None else f"{value:.6f}" for value in values)])  # fmt: skip
    return _written(lines)


def published_tables(
    evaluations: Iterable[Evaluation], suites: Sequence[Suite]
) -> dict[str, str]:
    """Each table in the layout of the original's CSV files: Model, ACC, AUC, a row for the mean."""
    headings = {suite.name: suite.heading for suite in suites}
    found = {}
    for one in evaluations:
        lines: list[list[object]] = [[headings[one.suite], "ACC", "AUC"]]
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


def slug(name: str) -> str:
    """A detector's name as a file's name: `runs/a b` → `runs-a-b`."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "detector"
