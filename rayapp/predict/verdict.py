"""What a logit means under a detector's calibration: probability, verdict, margin.

Shapes: N images · K classes.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import special

from rayapp.models.calibration.calibrators import Calibration

UNCALIBRATED = "uncalibrated"
_WORDS = {1: "synthetic", 0: "real", -1: "unsure"}
_COLUMNS = ("path", "logit", "probability", "verdict", "margin", "preprocessing", "error")


@dataclass(frozen=True)
class Verdicts:
    """One entry an image: probability of synthetic, word, and probability minus threshold."""

    probabilities_N: np.ndarray
    words: list[str]
    margins_N: np.ndarray


@dataclass(frozen=True)
class Judge:
    """Turns logits into verdicts.

    Args:
        preprocessing: how images were seen, for people.
        calibration: of the detector; None: the sigmoid, and verdicts are marked `uncalibrated`.
        threshold: in place of the calibration's own; there is then no band.
        classes: names of the classes of a detector with one logit a class.
    """

    preprocessing: str
    calibration: Calibration | None = None
    threshold: float | None = None
    classes: tuple[str, ...] = ()

    @property
    def decides_at(self) -> float:
        """The probability from which on an image is called synthetic."""
        if self.threshold is not None:
            return self.threshold
        return self.calibration.threshold if self.calibration else 0.5

    def of(self, logits_N: np.ndarray) -> Verdicts:
        """Verdicts of single logits."""
        if self.calibration is None:
            probabilities = special.expit(np.asarray(logits_N, dtype=np.float64))
        else:
            probabilities = self.calibration.apply(logits_N)
        if self.calibration is None or self.threshold is not None:
            decisions = (probabilities >= self.decides_at).astype(np.int8)
        else:
            decisions = self.calibration.decide(probabilities)
        mark = "" if self.calibration else f" ({UNCALIBRATED})"
        words = [_WORDS[int(decision)] + mark for decision in decisions]
        return Verdicts(probabilities, words, probabilities - self.decides_at)

    def of_classes(self, logits_NK: np.ndarray) -> Verdicts:
        """The likeliest class of each, its probability, and how far ahead of the second it is."""
        p_NK = special.softmax(np.asarray(logits_NK, dtype=np.float64), axis=1)
        order = np.sort(p_NK, axis=1)
        words = [self.classes[int(k)] for k in p_NK.argmax(axis=1)]
        return Verdicts(order[:, -1], words, order[:, -1] - order[:, -2])

    def table(self, scores: pa.Table) -> tuple[np.ndarray, np.ndarray, Verdicts]:
        """Rows of a score table that have one, their logit (of classes: the largest), verdicts."""
        if self.classes:
            rows = np.flatnonzero(~np.asarray(scores["logits"].is_null()))
            logits = np.array(scores["logits"].take(pa.array(rows)).to_pylist(), dtype=np.float64)
            logits = logits.reshape(len(rows), len(self.classes))
            return rows, logits.max(axis=1, initial=-np.inf), self.of_classes(logits)
        values = scores["logit"].to_numpy(zero_copy_only=False).astype(np.float64)
        rows = np.flatnonzero(~np.isnan(values))
        return rows, values[rows], self.of(values[rows])


def csv_lines(chunks: Iterable[pa.Table], judge: Judge, variants: bool = False) -> Iterator[str]:
    """Score tables for people, one line an image; an image that failed has its error.

    Args:
        chunks: tables of scores, in the order of the lines.
        judge: what the logits mean.
        variants: with a column that names the variant of a protocol.
    """
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(["variant"] if variants else [])])
    for chunk in chunks:
        rows, logits, verdicts = judge.table(chunk)
        figures = {
            int(row): (f"{logit:.6g}", f"{p:.6f}", word, f"{margin:+.6f}")
            for row, logit, p, word, margin in zip(
                rows, logits, verdicts.probabilities_N, verdicts.words, verdicts.margins_N,
                strict=True,
            )
        }  # fmt: skip
        names = [chunk[name].to_pylist() for name in ("path", "error", "variant")]
        for row, (path, error, variant) in enumerate(zip(*names, strict=True)):
            line = [_no_formula(path), *figures.get(row, ("",) * 4), judge.preprocessing, error]
            writer.writerow([*line, *([variant] if variants else [])])
        yield sink.getvalue()
        sink.seek(0)
        sink.truncate()


def _no_formula(path: str) -> str:
    """The path itself, or as `./path` where a spreadsheet would run it as a formula."""
    return f"./{path}" if path.startswith(("=", "+", "-", "@", "\t", "\r")) else path
