"""What a logit means under a detector's calibration: probability, verdict, margin.

Shapes: N images · K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from scipy import special

from rayapp.config.defaults import EVEN_ODDS
from rayapp.dataset.declared.declaration import (
    AI_GENERATED,
    BROKEN,
    CAMERA,
    NOTHING,
    OF_AI,
    VERIFIED,
    Declared,
)
from rayapp.models.detector_spec import TrustDeclared
from rayapp.models.firmness import AS_IT_IS, Delivery, Span, spans_of

if TYPE_CHECKING:
    from rayapp.models.calibration.calibrators import Calibration

UNCALIBRATED = "uncalibrated"
REAL, SYNTHETIC, UNSURE = "real", "synthetic", "unsure"
_WORDS = {1: SYNTHETIC, 0: REAL, -1: UNSURE}
_DECLARED_WORDS: dict[str, str] = {AI_GENERATED: SYNTHETIC, CAMERA: REAL}
NOTHING_DECLARED = Declared()


@dataclass(frozen=True)
class Verdicts:
    """One entry an image: probability of synthetic, word, probability minus threshold, reason.

    Of several classes: the probability of the likeliest, its name, and its lead. A reason says what
    limits the word; `` where it stands as it is. A conflict says how what the file declares goes
    against what the detector says; `` where it does not. A span says how firm the verdict is over
    the picture's deliveries; None where they were not scored.
    """

    probabilities_N: np.ndarray
    words: list[str]
    margins_N: np.ndarray
    reasons: list[str]
    conflicts: list[str]
    spans: list[Span | None]


@dataclass(frozen=True)
class Judgement:
    """One image as `Detector.judge` judges it.

    `verdict` is `real`, `synthetic` or `unsure` (of a detector of classes: the class), and empty
    where `error` says why the image could not be scored; there is then no probability. `reason`
    says what limits the verdict, `threshold` is the probability from which on it is `synthetic`.
    `declared` is what the file says of itself (`nothing` where it says nothing, which is no sign of
    a real image), `conflict` how that goes against the detector. Where it was asked for, `p_min`,
    `p_max` and `flips` say how firm the verdict is: least and largest probability of the picture
    over its `deliveries` (the first is the picture as it is), and how many of these flip it.
    """

    probability: float | None
    verdict: str
    reason: str
    threshold: float | None
    error: str = ""
    declared: str = NOTHING
    declared_by: str = ""
    declared_detail: str = ""
    conflict: str = ""
    p_min: float | None = None
    p_max: float | None = None
    flips: int | None = None
    deliveries: tuple[Delivery, ...] = ()

    @classmethod
    def failed(cls, error: str, declared: Declared = NOTHING_DECLARED) -> Judgement:
        """Of an image that could not be scored; its file may declare something all the same."""
        said = declared.kind, declared.by, declared.detail
        return cls(None, "", "", None, error, *said)


def decides_at(calibration: Calibration | None) -> float:
    """The probability from which on an image is called synthetic."""
    return EVEN_ODDS if calibration is None else calibration.threshold


@dataclass(frozen=True)
class Judge:
    """Turns logits into verdicts.

    Args:
        preprocessing: how images were seen, for people.
        calibration: of the detector; None: the sigmoid, and verdicts are marked `uncalibrated`.
        threshold: in place of the calibration's own; there is then no band.
        classes: names of the classes of a detector with one logit a class.
        trust_declared: whose word goes before the detector's: of files whose signature is verified,
            of any file whose signature is not broken, or none's. Only `ai-generated` and `camera`
            decide, and only between real and synthetic; what was edited may be either.
    """

    preprocessing: str
    calibration: Calibration | None = None
    threshold: float | None = None
    classes: tuple[str, ...] = ()
    trust_declared: TrustDeclared = "none"

    @property
    def decides_at(self) -> float:
        """The probability from which on an image is called synthetic; margins are from there."""
        if self.threshold is not None:
            return self.threshold
        return decides_at(self.calibration)

    @property
    def words(self) -> tuple[str, ...]:
        """Every verdict there is."""
        return (*(self.classes or (SYNTHETIC, REAL)), UNSURE)

    @property
    def band(self) -> tuple[float, float] | None:
        """The probabilities between which an image is left undecided, if there are any."""
        if self.calibration is None or self.threshold is not None:
            return None
        return self.calibration.band

    @property
    def mark(self) -> str:
        """What stands behind each verdict of a detector that was not calibrated."""
        return "" if self.calibration or self.classes else f" ({UNCALIBRATED})"

    def of(self, logits_N: np.ndarray, nothing_N: Sequence[str] = ()) -> Verdicts:
        """Verdicts of single logits; `unsure` where an image is said to hold nothing to judge."""
        if self.calibration is None:
            probabilities = special.expit(np.asarray(logits_N, dtype=np.float64))
        else:
            probabilities = self.calibration.apply(logits_N)
        if self.calibration is None or self.threshold is not None:
            decisions = (probabilities >= self.decides_at).astype(np.int8)
        else:
            decisions = self.calibration.decide(probabilities)
        words = [_WORDS[int(decision)] + self.mark for decision in decisions]
        words, reasons = self._explained(words, nothing_N)
        margins = probabilities - self.decides_at
        return _bare(probabilities, words, margins, reasons)

    def of_classes(self, logits_NK: np.ndarray, nothing_N: Sequence[str] = ()) -> Verdicts:
        """The likeliest class of each, its probability, and how far ahead of the second it is."""
        p_NK = special.softmax(np.asarray(logits_NK, dtype=np.float64), axis=1)
        order = np.sort(p_NK, axis=1)
        words = [self.classes[int(k)] for k in p_NK.argmax(axis=1)]
        words, reasons = self._explained(words, nothing_N)
        lead = order[:, -1] - order[:, -2]
        return _bare(order[:, -1], words, lead, reasons)

    def _explained(self, words: list[str], nothing_N: Sequence[str]) -> tuple[list[str], list[str]]:
        """The words, `unsure` where nothing can be judged, and what limits each."""
        nothing_N = nothing_N or [""] * len(words)
        return (
            [UNSURE if nothing else word for word, nothing in zip(words, nothing_N, strict=True)],
            [nothing or self.reason(word) for word, nothing in zip(words, nothing_N, strict=True)],
        )

    def table(self, scores: pa.Table) -> tuple[np.ndarray, np.ndarray, Verdicts]:
        """Rows of a score table that have one, their logit (of classes: the largest), verdicts."""
        if self.classes:
            rows = np.flatnonzero(~np.asarray(scores["logits"].is_null()))
            logits = np.array(scores["logits"].take(pa.array(rows)).to_pylist(), dtype=np.float64)
            logits = logits.reshape(len(rows), len(self.classes))
            verdicts = self.of_classes(logits, no_basis(scores, rows))
            return rows, logits.max(axis=1, initial=-np.inf), verdicts
        values = scores["logit"].to_numpy(zero_copy_only=False).astype(np.float64)
        rows = np.flatnonzero(~np.isnan(values))
        verdicts = self.of(values[rows], no_basis(scores, rows))
        if "delivered_logits" in scores.column_names:
            delivered = scores["delivered_logits"].take(pa.array(rows)).to_pylist()
            verdicts = self._firm(verdicts, delivered)
        if {"declared", "declared_by"} <= set(scores.column_names):
            said = scores.select(["declared", "declared_by"]).take(pa.array(rows)).to_pylist()
            each = [(one["declared"] or NOTHING, one["declared_by"] or "") for one in said]
            verdicts = self._beside(verdicts, each)
        return rows, values[rows], verdicts

    def _beside(self, verdicts: Verdicts, declared_N: Sequence[tuple[str, str]]) -> Verdicts:
        """The verdicts with what files declare (kind and by what) beside them, or before them."""
        words, reasons, conflicts = list(verdicts.words), list(verdicts.reasons), []
        for at, (kind, by) in enumerate(declared_N):
            word = words[at].removesuffix(self.mark)
            against = (word == REAL and kind in OF_AI) or (word == SYNTHETIC and kind == CAMERA)
            conflicts.append(f"the file declares {kind}, the detector says {word}" * against)
            if kind in _DECLARED_WORDS and self._trusts(by):
                words[at] = _DECLARED_WORDS[kind]
                reasons[at] = f"as the file declares ({by})"
        return replace(verdicts, words=words, reasons=reasons, conflicts=conflicts)

    def _firm(self, verdicts: Verdicts, delivered_N: Sequence[Sequence[float] | None]) -> Verdicts:
        """The verdicts, `unsure` where a picture gets another one as it is delivered elsewhere."""
        words, reasons = list(verdicts.words), list(verdicts.reasons)
        decided = frozenset({REAL + self.mark, SYNTHETIC + self.mark})
        p_N = verdicts.probabilities_N
        spans = spans_of(p_N, words, delivered_N, self._told, decided)
        for at, span in enumerate(spans):
            if span and span.flips:
                words[at], reasons[at] = UNSURE, span.reason
        return replace(verdicts, words=words, reasons=reasons, spans=spans)

    def _told(self, logits_N: np.ndarray) -> tuple[np.ndarray, list[str]]:
        found = self.of(logits_N)
        return found.probabilities_N, found.words

    def _trusts(self, by: str) -> bool:
        state = by.rpartition(", ")[2]
        if self.trust_declared == "any":
            return state != BROKEN
        return self.trust_declared == "signed" and state == VERIFIED

    def judged(
        self,
        logits_N: np.ndarray,
        nothing_N: Sequence[str] = (),
        declared_N: Sequence[Declared] = (),
        delivered_N: Sequence[Mapping[str, float]] = (),
    ) -> list[Judgement]:
        """A judgement an image, of single logits or of one a class.

        Args:
            logits_N: or [N, K].
            nothing_N: where an image holds nothing to judge, why; empty: of none.
            declared_N: what each image's file declares; empty: nothing.
            delivered_N: logits of each image's deliveries by name; empty: not scored.
        """
        if len(logits_N) == 0:
            return []
        verdicts = (self.of_classes if self.classes else self.of)(logits_N, nothing_N)
        deliveries = [self._deliveries(verdicts, at, one) for at, one in enumerate(delivered_N)]
        if delivered_N:
            verdicts = self._firm(verdicts, [list(one.values()) for one in delivered_N])
        declared_N = declared_N or [NOTHING_DECLARED] * len(logits_N)
        if not self.classes:
            verdicts = self._beside(verdicts, [(one.kind, one.by) for one in declared_N])
        threshold = None if self.classes else self.decides_at
        words = [word.removesuffix(self.mark) for word in verdicts.words]
        faults = [logit_fault(np.atleast_1d(one)) for one in np.asarray(logits_N)]
        return [
            Judgement.failed(fault, said)
            if fault
            else Judgement(
                float(p),
                word,
                reason,
                threshold,
                conflict=against,
                deliveries=several,
                **said.columns(),
                **(asdict(span) if span else {}),
            )
            for fault, p, word, reason, against, said, span, several in zip(
                faults,
                verdicts.probabilities_N,
                words,
                verdicts.reasons,
                verdicts.conflicts,
                declared_N,
                verdicts.spans,
                deliveries or [()] * len(words),
                strict=True,
            )
        ]

    def _deliveries(
        self, verdicts: Verdicts, at: int, delivered: Mapping[str, float]
    ) -> tuple[Delivery, ...]:
        """What is said of a picture as it is, and of each of its deliveries."""
        p_N, words = self._told(np.array(list(delivered.values())))
        every = [*zip(delivered, p_N, words, strict=True)]
        every.insert(0, (AS_IT_IS, verdicts.probabilities_N[at], verdicts.words[at]))
        return tuple(
            Delivery(name, float(p), word.removesuffix(self.mark)) for name, p, word in every
        )

    def reason(self, word: str) -> str:
        """What limits a verdict; nothing where it stands as it is."""
        if word == UNSURE and self.band:
            low, high = self.band
            return f"the probability lies in {low:.3g} … {high:.3g}, where the detector is unsure"
        return "" if self.calibration or self.classes else UNCALIBRATED


def _bare(p_N: np.ndarray, words: list[str], margins_N: np.ndarray, why: list[str]) -> Verdicts:
    """Verdicts of logits alone: nothing is known of files or deliveries."""
    return Verdicts(p_N, words, margins_N, why, [""] * len(words), [None] * len(words))


def logit_fault(logits: Iterable[float]) -> str:
    """What is wrong with an image's logits, by name; `` where they are finite numbers."""
    values = list(logits)
    if any(math.isnan(one) for one in values):
        return "the detector gave NaN"
    return "the detector gave an infinite score" if any(map(math.isinf, values)) else ""


def no_basis(scores: pa.Table, rows: np.ndarray) -> list[str]:
    """Of each row why it holds nothing to judge; tables of before know nothing of it."""
    if "reason" not in scores.column_names:
        return []
    return [one or "" for one in scores["reason"].take(pa.array(rows)).to_pylist()]
