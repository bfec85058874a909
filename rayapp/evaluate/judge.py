"""What a protocol makes of stored scores: which rows count, under which calibration.

`clean` measures no image on which the calibration was fitted. `legacy` repeats the original: a
logistic regression without smoothing, fitted on published images that stay in the test set.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import special

from rayapp.config.defaults import EVEN_ODDS
from rayapp.config.errors import UserError
from rayapp.dataset import leakage
from rayapp.dataset.labels import item_id
from rayapp.dataset.scores import names_by, select
from rayapp.dataset.suites import BY_LIST
from rayapp.metrics.false_positives import count_false_positives
from rayapp.metrics.testset import TestSet
from rayapp.models.calibration import calibrators
from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.calibration.decisions import percent
from rayapp.run.record import digest
from rayapp.transforms.draws import generator

if TYPE_CHECKING:
    from rayapp.dataset.labels import AnnotationList, Item, LabelScheme
    from rayapp.dataset.suites import ProtocolName, Suite, TestItems
    from rayapp.evaluate.detectors import Measured
    from rayapp.metrics.false_positives import FalsePositives
    from rayapp.metrics.testset import Part
    from rayapp.models.detector_spec import Method

_ORIGINAL_C, _ORIGINAL_STEPS = 1e10, 1000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """A test set with the calibration in force, and in words what the protocol did."""

    test: TestSet
    rows: pa.Table
    items: TestItems
    calibration: Calibration | None
    calibrated: str
    notes: tuple[str, ...]


def judge(
    detector: Measured,
    suite: Suite,
    items: TestItems,
    calibration: AnnotationList | None,
    scores: pa.Table,
    protocol: ProtocolName,
    seed: int,
) -> Judged:
    """The scored test set of a detector that tells real from synthetic.

    Args:
        detector: of one output.
        suite: its name stands in messages.
        items: the rows of the suite under the protocol.
        calibration: the suite's published calibration list, where it is there.
        scores: of the detector, a row a path.
        protocol: see the module.
        seed: of the solver that legacy repeats.

    Raises:
        UserError: a row has no score, or calibration images are in the test set (`clean`).
    """
    own = detector.spec.calibration
    notes = items.notes
    if protocol == "legacy" and calibration is not None:
        rows = select(scores, items.items, items.scheme, suite.called)
        fitted = _as_the_original(detector, calibration, scores, seed)
        calibrated = (
            f"logistic regression (C = 1e10) on {len(calibration.items)} published images, "
            f"{_inside(calibration.items, items)} of them in the test set"
        )
        return _judged(rows, items, fitted, calibrated, notes, rescaled=True)
    if own is not None:
        rows = select(scores, items.items, items.scheme, suite.called)
        if protocol == "clean":
            notes += _guarded(detector, suite, rows)
        calibrated = f"the detector's own: {own.method} on {own.n} images"
        return _judged(rows, items, own, calibrated, notes)
    if calibration is not None:
        known = select(scores, calibration.items, calibration.scheme, calibration.list_uri)
        items = _apart(items, known, scores)
        rows = select(scores, items.items, items.scheme, suite.called)
        fitted = _platt(detector, calibration, known)
        calibrated = f"platt on {fitted.n} published images, which are left out of the test set"
        return _judged(rows, items, fitted, calibrated, notes)
    rows = select(scores, items.items, items.scheme, suite.called)
    why = f" ({suite.calibration} is not among the lists)" if suite.calibration else ""
    calibrated = f"none{why}: sigmoid of the logit, threshold {EVEN_ODDS}"
    return _judged(rows, items, None, calibrated, notes)


def _judged(
    rows: pa.Table,
    items: TestItems,
    calibration: Calibration | None,
    calibrated: str,
    notes: tuple[str, ...],
    *,
    rescaled: bool = False,
) -> Judged:
    test = TestSet.of(rows, items.scheme, calibration)
    if rescaled and calibration:  # the original ranks by the calibrated score
        value = {k: v for k, v in calibration.parameters.items() if isinstance(v, float)}
        test = replace(test, logits_N=value["slope"] * test.logits_N + value["bias"])
    if test.groups_N is None:
        sources = np.asarray(items.photographs_N, dtype=np.str_)
        if len(np.unique(sources)) < len(sources):
            test = replace(test, groups_N=sources)
    if calibration and calibration.turned:
        calibrated += f"; {calibration.turned}"
        if not rescaled:  # what it answers is ranked, not the scores that it turns
            test = replace(test, logits_N=-test.logits_N)
    dropped = tuple(f"left out: {count:,} {why}" for why, count in items.dropped.items())
    return Judged(test, rows, items, calibration, calibrated, notes + dropped)


def _as_the_original(
    detector: Measured, calibration: AnnotationList, scores: pa.Table, seed: int
) -> Calibration:
    """Its solver, with the draws stated: on separated scores the result is where it stops."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    rows = select(scores, calibration.items, calibration.scheme, calibration.list_uri)
    logits = rows["logit"].to_numpy().astype(np.float64)
    fit = LogisticRegression(
        C=_ORIGINAL_C, solver="saga", max_iter=_ORIGINAL_STEPS, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit.fit(logits[:, None], rows["origin"].to_numpy())
    slope, bias = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    return _calibration(detector, calibration, "platt", {"slope": slope, "bias": bias})


def _platt(detector: Measured, calibration: AnnotationList, rows: pa.Table) -> Calibration:
    logits = rows["logit"].to_numpy().astype(np.float64)
    fitted = calibrators.fit("platt", logits, rows["origin"].to_numpy())
    return _calibration(detector, calibration, fitted.method, fitted.parameters)


def _calibration(
    detector: Measured, on: AnnotationList, method: Method, parameters: object
) -> Calibration:
    ids = [item_id(item.path).encode() for item in on.items]
    return Calibration.model_validate(
        {
            "method": method,
            "parameters": parameters,
            "n": len(ids),
            "items_hash": digest(*ids),
            "detector_hash": detector.hash,
            "preprocessing_hash": detector.spec.preprocessing.hash,
        }
    )


def _inside(calibration: Sequence[Item], items: TestItems) -> int:
    there = {item_id(item.path) for item in items.items}
    return sum(item_id(item.path) in there for item in calibration)


def _apart(items: TestItems, calibration: pa.Table, scores: pa.Table) -> TestItems:
    """Without the calibration images: by path, by the photograph behind them, and by bytes."""
    paths = set(calibration["path"].to_pylist())
    own = [item_id(item.path) for item in items.items]
    photographs = {s for path, s in zip(own, items.photographs_N, strict=True) if path in paths}
    alike = set(pc.unique(calibration["sha256"]).to_pylist()) - {None, ""}
    twins = (
        set(
            scores.filter(pc.is_in(scores["sha256"], pa.array(list(alike), pa.string())))[
                "path"
            ].to_pylist()
        )
        if alike
        else set()
    )
    kept = [
        path not in paths and source not in photographs and path not in twins
        for path, source in zip(own, items.photographs_N, strict=True)
    ]
    return items.only(kept, "calibration images and their repeats")


def _guarded(detector: Measured, suite: Suite, rows: pa.Table) -> tuple[str, ...]:
    """Refuse a test set with the detector's calibration images; a note where they aren't known."""
    if detector.calibrated_on is None:
        return ("on which images the detector was calibrated isn't recorded beside it",)
    refuse_calibration(detector, suite, rows)
    return ()


def refuse_calibration(detector: Measured, suite: Suite, rows: pa.Table) -> None:
    """Nothing where a detector is measured on none of its calibration images.

    Raises:
        UserError: how many of them are among the rows (`path`, and `sha256` where known).
    """
    if detector.calibrated_on is not None:
        where = f"{suite.called}, which {detector.name} is to be measured on"
        leakage.refuse(
            [(where, leakage.leaks(detector.calibrated_on, rows))],
            detector.calibrated_on,
            "calibrate on other images, or take --protocol legacy",
        )


def promise(judged: Judged, root: str | None) -> tuple[tuple[FalsePositives, ...], tuple[str, ...]]:
    """False positives in the slices in which a rate was asked for, and what else must be known."""
    test, slices, calibration = judged.test, None, judged.calibration
    notes: tuple[str, ...] = ()
    if calibration and calibration.prevalence is not None:
        share = float(test.codes["origin"].mean())
        notes = (
            f"NLL, Brier and calibration error are of these images, of which {percent(share)} "
            f"are synthetic, not of {percent(calibration.prevalence)}",
        )
    point = calibration.operating_point if calibration else None
    if point is None or point.fpr is None:
        return (), notes
    if point.by:
        try:
            slices = np.asarray(names_by(judged.rows, point.by, judged.items.scheme, root))
        except UserError as error:
            return (), (*notes, f"false positives by {point.by} are not known here: {error}")
    paths = np.asarray(judged.rows["path"].to_pylist())
    found = count_false_positives(
        test.probabilities_N,
        test.codes["origin"],
        test.threshold,
        slices,
        paths if test.groups_N is None else test.groups_N,
    )
    return found, notes


def slices_of(suite: Suite, judged: Judged, protocol: ProtocolName, seed: int) -> list[Part]:
    """The whole, then the slices of the suite's table; all label columns where it has none."""
    if not suite.slices:
        return judged.test.slices(judged.items.scheme)
    real = judged.test.codes["origin"] == 0
    names = np.asarray(judged.items.lists_N)
    rule = suite.reals.model_dump()[protocol]
    parts: list[Part] = [("", "all", np.ones(len(real), dtype=bool))]
    for name, value in suite.slices.items():
        codes = names if suite.column == BY_LIST else judged.test.codes[suite.column]
        mine = codes == value
        synthetic = mine & ~real
        if rule == "own":
            chosen = mine
        elif rule == "all":
            chosen = synthetic | real
        else:
            chosen = synthetic | _drawn(real, int(synthetic.sum()), seed, name)
        parts.append((suite.column, name, chosen))
    return parts


def _drawn(real: NDArray[np.bool_], num: int, seed: int, name: str) -> NDArray[np.bool_]:
    """So many reals, drawn without replacement by the seed and the slice's name."""
    at = np.flatnonzero(real)
    drawn = generator(seed, "legacy reals", name).permutation(at)[:num]
    chosen = np.zeros(len(real), dtype=bool)
    chosen[drawn] = True
    return chosen


def class_probabilities(
    detector: Measured, suite: Suite, items: TestItems, scores: pa.Table
) -> tuple[NDArray[np.int64], Floats, tuple[str, ...], pa.Table]:
    """True class [N], probabilities [N, K], class names, rows of a detector of several outputs.

    Raises:
        UserError: a row has no score, or the classes are not those of the label scheme.
    """
    rows = select(scores, items.items, items.scheme, suite.called)
    classes = detector.spec.labels.classes
    codes = _class_codes(items.scheme, suite.column, classes)
    if codes is None:
        known = ", ".join(items.scheme.names(suite.column).values())
        raise UserError(
            f"{detector.name}: its classes {', '.join(classes)} are not those of "
            f"{items.scheme.name}'s column {suite.column} ({known})"
        )
    truth = rows[suite.column].to_numpy().astype(np.int64)
    at = {code: place for place, code in enumerate(codes)}
    unknown = set(truth.tolist()) - at.keys()
    if unknown:
        name = items.scheme.names(suite.column)[min(unknown)]
        raise UserError(f"{detector.name}: the test set holds {name}, which is no class of it")
    logits = np.asarray(rows["logits"].to_pylist(), dtype=np.float64)
    return np.array([at[code] for code in truth]), special.softmax(logits, axis=1), classes, rows


def _class_codes(scheme: LabelScheme, column: str, classes: Sequence[str]) -> list[int] | None:
    codes = {name: code for code, name in scheme.names(column).items()}
    found = [codes.get(name) for name in classes]
    return None if None in found else found  # type: ignore[return-value]
