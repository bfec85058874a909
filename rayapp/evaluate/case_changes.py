"""Which known cases changed sides against the last detector: judged, counted, told."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from rayapp.config.errors import UserError
from rayapp.config.paths import nearby, slug
from rayapp.dataset.leakage import trained_on
from rayapp.dataset.scores import read_matching
from rayapp.evaluate.detectors import Measured, load_all
from rayapp.evaluate.known_cases import KnownCases, Told, read_cases, told_before
from rayapp.metrics.regressions import CASE_COLUMNS, KnownCase, Regressions, counts_of, worst_first
from rayapp.models.verdicts import Judge
from rayapp.run.record import digest

if TYPE_CHECKING:
    from rayapp.evaluate.settings import EvaluateSettings

_SHOWN = 20
_MOST_KEPT = 500  # cases beside the counts; all are in the file


@dataclass(frozen=True)
class Asked:
    """What is known, what it is compared with, and the detector of that if it is one."""

    cases: KnownCases
    name: str = ""
    told: Told | None = None
    last: Measured | None = None


def asked_of(settings: EvaluateSettings, detectors: Sequence[Measured]) -> Asked | None:
    """What the settings ask for; None: no regressions.

    Raises:
        UserError: see `read_cases` and `told_before`; no such detector, or one of classes.
    """
    if not settings.regressions:
        return None
    cases, uri = read_cases(settings.regressions, settings.scheme), settings.against
    told = told_before(uri) if uri else None
    last = load_all([uri], ())[0] if uri and told is None else None
    for detector in (*detectors, *([last] if last else [])):
        if detector.task != "origin":
            raise UserError(
                f"regressions: {detector.name} tells classes apart; cases are real or synthetic"
            )
    return Asked(cases, (uri or "").rstrip("/"), told, last)


def judged_cases(detector: Measured, scores: pa.Table, known: Sequence[str]) -> Told:
    """What a detector says of some images, as predict would tell it; without those not scored."""
    there = scores.filter(pc.is_in(scores["path"], pa.array(known, pa.string())))
    # A verdict that depends on delivery would depend on whether deliveries were scored.
    columns = {"path", "logit", "logits", "reason", "root"} & set(there.column_names)
    there = there.select(sorted(columns)).combine_chunks()
    judge = Judge(detector.spec.preprocessing.view, detector.spec.calibration)
    rows, _, verdicts = judge.table(there)
    paths = there["path"].take(pa.array(rows, pa.int64())).to_pylist()
    words = [word.removesuffix(judge.mark) for word in verdicts.words]
    pairs = zip(words, verdicts.probabilities_N.tolist(), strict=True)
    return dict(zip(paths, pairs, strict=True))


def regressions_of(
    asked: Asked, detectors: Sequence[Measured], settings: EvaluateSettings
) -> Iterator[tuple[Regressions, str]]:
    """Of each detector the counts, and its cases as CSV."""
    told = asked.told or {}
    if asked.last:
        told = judged_cases(asked.last, _scores(asked.last, settings), list(asked.cases.known))
    for detector in detectors:
        scores = _scores(detector, settings)
        cases = worst_first(_cases(asked.cases, told, detector, scores))
        found = Regressions(
            detector=detector.name,
            against=asked.name,
            counts=counts_of(cases),
            cases=[one for one in cases if one.change != "stays right"][:_MOST_KEPT],
            left_out=asked.cases.left_out,
            seen=len(_seen_by(detector, settings.root) & asked.cases.known.keys()),
            file=f"regressions/{slug(detector.name)}.csv",
        )
        yield found, _as_csv(cases)


def _scores(detector: Measured, settings: EvaluateSettings) -> pa.Table:
    root = settings.root.rstrip("/") if settings.root else None
    return read_matching(settings.scores, detector.hash, root)


def _cases(
    known: KnownCases, told: Told, detector: Measured, scores: pa.Table
) -> Iterator[KnownCase]:
    now = judged_cases(detector, scores, list(known.known))
    names = [name for name in ("path", "root", "error") if name in scores.column_names]
    rows: dict[str, dict[str, Any]] = {
        row["path"]: row for row in scores.select(names).to_pylist() if row["path"] in known.known
    }
    for path, label in known.known.items():
        row = rows.get(path, {})
        word, p = now.get(path, ("", None))
        before, p_before = told.get(path, ("", None))
        why = "" if word else row.get("error") or "no score of it: gone, or no --root is given"
        yield KnownCase(
            path=path,
            root=row.get("root") or "",
            known=label,
            before=before,
            now=word,
            p_before=p_before,
            p_now=p,
            error=why,
        )


def _seen_by(detector: Measured, root: str | None) -> set[str]:
    calibrated = detector.calibrated_on
    own = set(calibrated["path"].to_pylist()) if calibrated is not None else set()
    return own | trained_on(detector.spec.provenance, root)


def cases_digest(found: Sequence[tuple[Regressions, str]]) -> dict[str, str]:
    """What the tables of known cases depend on, by hash."""
    return {
        f"known cases {one.detector}": digest(text.encode(), one.against.encode())
        for one, text in found
    }


def _as_csv(cases: Sequence[KnownCase]) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([*CASE_COLUMNS, "error"])
    for one in cases:
        path = one.path if one.path[0] not in "=+-@" else f"./{one.path}"  # no formula
        values = ["" if p is None else f"{p:.6f}" for p in (one.p_before, one.p_now)]
        head = [path, one.change, one.known, one.before, one.now]
        writer.writerow([*head, *values, one.root, one.error])
    return sink.getvalue()


def as_text(one: Regressions) -> str:
    """For a terminal: what changed sides, then the counts."""
    against = f" against {nearby(one.against)}" if one.against else ""
    shown = one.cases[:_SHOWN]
    heads: tuple[str, ...] = ("case", "", "is", "before", "now", "p before", "p now")
    lines = [heads] if shown else []
    lines += [
        (
            case.path,
            one.word(case.change),
            case.known,
            case.before or "–",
            case.now or "–",
            *("–" if p is None else f"{p:.3f}" for p in (case.p_before, case.p_now)),
        )
        for case in shown
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)) for row in lines]
    more = one.num_cases - one.counts.get("stays right", 0) - len(shown)
    rows += [f"{more:,} more in {one.file}"] if more > 0 else []
    first = next((case for case in one.cases if case.error), None)
    rows += [f"not scored: {first.path}: {first.error}"] if first else []
    title = f"known cases: {one.detector}{against}"
    return "\n  ".join([title, *(row.rstrip() for row in rows), *one.remarks, one.counted])
