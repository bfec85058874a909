"""The rows of an answer: the columns of scores.parquet, and what scores.csv says for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from rayapp.dataset import scores
from rayapp.metrics.traffic import decided_by
from rayapp.models.basis import error_rates, threshold_line, verdict_sentence
from rayapp.models.detector import Detector
from rayapp.models.evidence_maps import EvidenceMap
from rayapp.models.scope import NOT_RECORDED
from rayapp.models.verdicts import Judge, Judgement, Verdicts
from rayapp.serve.score_contract import Row

_OF_FOLDERS = ("id", "path", "source", "licence", "variant", "group", "etag")  # not of one request
_DECLARED = ("declared", "declared_by", "declared_detail")
COLUMNS = tuple(name for name in scores.schema().names if name not in _OF_FOLDERS)


def answer_rows(rows: Sequence[Row], names: Sequence[str], judge: Judge) -> list[Row]:
    """Answers to rows as predict's workers give them; verdicts as predict's tables have them."""
    table = pa.Table.from_pylist(list(rows), schema=scores.schema())
    at, _, verdicts = judge.table(table)
    answers = [
        {"name": name, **{key: _finite(row[key]) for key in COLUMNS}, **_no_verdict(row["error"])}
        for name, row in zip(names, table.to_pylist(), strict=True)
    ]
    for number, index in enumerate(at):
        span = verdicts.spans[number]
        answers[index] |= {
            "verdict": verdicts.words[number],
            "probability": float(verdicts.probabilities_N[number]),
            "margin": float(verdicts.margins_N[number]),
            "reasons": [
                one for one in (verdicts.reasons[number], verdicts.conflicts[number]) if one
            ],
            "conflict": verdicts.conflicts[number],
            "in_words": _in_words(judge, verdicts, number),
            **({"p_min": span.p_min, "p_max": span.p_max, "flips": span.flips} if span else {}),
        }
    return answers


def without_declared(answers: Sequence[Row]) -> list[Row]:
    """Answers that leave out what files declare."""
    return [answer | dict.fromkeys(_DECLARED) for answer in answers]


def _in_words(judge: Judge, verdicts: Verdicts, number: int) -> str:
    word = verdicts.words[number].removesuffix(judge.mark)
    threshold = None if judge.classes else judge.decides_at
    p = float(verdicts.probabilities_N[number])
    return verdict_sentence(Judgement(p, word, verdicts.reasons[number], threshold))


def map_answer(found: EvidenceMap, detector: Detector, size_HW: tuple[int, int]) -> Row:
    """A map over the whole picture as it is seen, upright."""
    rows, columns = found.logits_G.shape
    return {
        "rows": rows,
        "columns": columns,
        "by": found.by,
        "logits": _finite(found.logits_G.tolist()),
        "probabilities": _finite(found.probabilities(detector).astype(float).round(4).tolist()),
        "box": [0, 0, size_HW[1], size_HW[0]],
    }


def card(name: str, digest: str, judge: Judge, detector: Detector | None) -> Row:
    """What is known of a detector, for people and programs; None: a user's own file."""
    scope = detector.spec.scope if detector else None
    fit = judge.calibration
    return {
        "name": name,
        "hash": digest,
        "display_name": (scope.about if scope else "") or name,
        "threshold": None if judge.classes else judge.decides_at,
        "band": list(judge.band) if judge.band else None,
        "classes": list(judge.words),
        "seen_as": judge.preprocessing,
        "decides": threshold_line(judge),
        "calibration": f"{fit.method}, on {fit.n:,} images" if fit else "none",
        "error_rates": error_rates(judge),
        "scope": detector.scope_line if detector else NOT_RECORDED,
        "counted_as": decided_by(judge),
        "has_map": detector is not None and not judge.classes,
        "has_stability": not judge.classes,
    }


def _no_verdict(error: str | None) -> Row:
    return {
        **dict.fromkeys(("verdict", "probability", "margin", "p_min", "p_max", "flips", "map")),
        "conflict": "",
        "in_words": verdict_sentence(Judgement.failed(error)) if error else "",
        "reasons": [error] if error else [],
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
