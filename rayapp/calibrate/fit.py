"""Calibration: from stored scores to a detector that says how sure it is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rayapp.calibrate.choices import decide, fit_calibrator
from rayapp.calibrate.given import (
    Given,
    keep_reference,
    made_from,
    read_given,
    without_gone,
    write_reviews,
)
from rayapp.calibrate.guarded_images import guarded
from rayapp.calibrate.settings import CalibrateSettings
from rayapp.config.errors import UserError
from rayapp.dataset import leakage, manifest
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import AnnotationList, item_id
from rayapp.dataset.scores import names_by, photographs, read_matching, select
from rayapp.metrics.traffic_files import REFERENCE_FILE
from rayapp.models.calibration import calibrators, decisions, direction
from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.calibration.importance import Importance
from rayapp.models.detector import Detector
from rayapp.models.folder import SPEC_FILE, WEIGHTS_FILE, load_detector, save_detector
from rayapp.models.scope import Images
from rayapp.models.verdicts import Judge
from rayapp.run import record
from rayapp.run.resume import nothing_left
from rayapp.storage.uris import read_uri, split_uri


def check_labels(settings: CalibrateSettings, listed: AnnotationList) -> None:
    """What the labels alone forbid: said before an image is scored or anything is written.

    Raises:
        UserError: no item of a class, or too few real ones for the asked false-positive rate.
    """
    num_synthetic = sum(listed.column("origin"))
    num_real = len(listed.items) - num_synthetic
    try:
        if settings.temperature is None:  # a given one is not fitted
            direction.require_both(num_real, num_synthetic)
        if settings.fpr is not None:
            decisions.check_reals({decisions.ALL: num_real}, settings.fpr, settings.confidence)
    except UserError as error:
        raise UserError(f"{listed.list_uri}: {error}") from None


def calibrate(settings: CalibrateSettings, leaked: Mapping[str, int] | None = None) -> record.Run:
    """Write the calibrated detector, and the images that it rests on; figures in the run's results.

    Args:
        settings: what is fitted, and to what.
        leaked: how many images are in each of `against`, where that was compared already.

    Raises:
        UserError: scores of another detector, an image without a score, one class only, or
            (`clean`) an image that is also in one of `against`; or too few reals for the rate.
    """
    detector = load_detector(settings.detector)
    check_tells_origin(detector, settings.detector)
    given = read_given(settings)
    check_labels(settings, given.listed)
    given, rows = _with_rows(settings, detector, given)
    own = _identities(settings, given.listed, rows)
    if leaked is None:
        leaked = guarded(own, settings)
    slices = []
    if settings.fpr_by:
        slices = names_by(rows, settings.fpr_by, given.listed.scheme, settings.root)
    logits, labels = _scored(rows)
    importance = given.importance(labels)
    fitted = fit_calibrator(settings, logits, labels, importance)
    calibration = _calibration(fitted, rows, slices, settings, detector, importance)
    # Whatever is refused was refused before anything is written.
    run = record.start(
        "calibrate",
        settings,
        _inputs(settings, detector, given, rows, slices),
        output=settings.output,
        overwrite=settings.overwrite,
    )
    if nothing_left(run):
        return run
    counts = {"in": len(labels), "real": int((labels == 0).sum()), "synthetic": int(labels.sum())}
    calibrated = _calibrated(settings, detector, given, calibration, counts)
    run.claim()
    results = _results(fitted, calibration) | {"leaked": dict(leaked)}
    manifest.write_table(run.store, leakage.ITEMS_FILE, own)
    kept = np.ones(len(labels), np.bool_) if importance is None else importance.even_N
    keep_reference(rows, labels, kept, calibrated, run.store)
    if given.marks is not None:
        before = Judge("", detector.spec.calibration)
        results["called_wrong"] = write_reviews(given, rows, before, run.store)
        results["warnings"] = list(given.marks.warnings)
        counts |= {"unclear": given.marks.num_unclear, "drawn alike": int(kept.sum())}
    save_detector(calibrated, run.store)
    made = (SPEC_FILE, WEIGHTS_FILE, leakage.ITEMS_FILE, REFERENCE_FILE)
    run.finish(counts, results, made=made)
    return run


def _with_rows(
    settings: CalibrateSettings, detector: Detector, given: Given
) -> tuple[Given, pa.Table]:
    """The images that are still there, and the stored score of each, with its labels."""
    paths = [item_id(item.path) for item in given.listed.items]
    table = read_matching(settings.scores, detector.hash(), settings.root, paths)
    given = without_gone(given, table, settings)
    listed = given.listed
    return given, select(table, listed.items, listed.scheme, listed.list_uri)


def _identities(settings: CalibrateSettings, listed: AnnotationList, rows: pa.Table) -> pa.Table:
    """What the images are known again by, wherever that is known."""
    known = [manifest.read_table(*split_uri(settings.identities))] if settings.identities else []
    return leakage.identities(listed.items, [*known, rows])


def _inputs(
    settings: CalibrateSettings,
    detector: Detector,
    given: Given,
    rows: pa.Table,
    slices: Sequence[str],
) -> dict[str, str]:
    """Hashes of all that a calibration depends on."""
    inputs = {
        "detector": detector.hash(),
        "scores": record.digest(np.asarray(rows["logit"], np.float32).tobytes()),
        **given.hashes,
        **{uri: sha256(read_uri(uri)) for uri in settings.against},
    }
    if settings.fpr is not None:
        inputs["reals"] = record.digest(*(name.encode() for name in [*photographs(rows), *slices]))
    return inputs


def _calibrated(
    settings: CalibrateSettings,
    detector: Detector,
    given: Given,
    calibration: Calibration,
    counts: Mapping[str, int],
) -> Detector:
    """The detector with its calibration, and with what its verdicts now rest on."""
    on = Images(
        lists=given.uris,
        num_real=counts["real"],
        num_synthetic=counts["synthetic"],
        date=record.now(),
    )
    was = detector.spec.calibration
    turned = bool(calibration.turned) != bool(was and was.turned)
    update = {
        "calibration": calibration,
        "scope": detector.spec.scope.recalibrated(on, turned=turned),
        "provenance": detector.spec.provenance | made_from(given, detector, settings.sampled),
    }
    return Detector(detector.network, detector.spec.model_copy(update=update))


def _results(fitted: calibrators.Calibrator, calibration: Calibration) -> dict[str, Any]:
    """What the end says of a calibration, and what fuse and tune read of it."""
    return {
        "method": fitted.method,
        "parameters": fitted.parameters,
        "slope_interval": fitted.slope_interval,
        "warning": fitted.warning,
        "threshold": calibration.threshold,
        "band": calibration.band,
        "decisions": calibration.describe(),
    }


def check_tells_origin(detector: Detector, name: str) -> None:
    """Nothing where the detector has one output.

    Raises:
        UserError: it tells classes apart, and has no probability to be calibrated.
    """
    if detector.spec.architecture.head.num_outputs > 1:
        column = detector.spec.labels.column
        raise UserError(
            f"{name}: tells {column} apart, not real from synthetic; there is nothing to calibrate"
        )


def _calibration(
    fitted: calibrators.Calibrator,
    rows: pa.Table,
    slices: Sequence[str],
    settings: CalibrateSettings,
    detector: Detector,
    importance: Importance | None,
) -> Calibration:
    """The map with its decisions, and where they are from."""
    logits_N, labels_N = _scored(rows)
    weights_N = None if importance is None else importance.weights_N
    share = float(np.average(labels_N, weights=weights_N))
    undecided = Calibration(
        method=fitted.method,
        parameters=fitted.parameters,
        n=len(labels_N),
        items_hash=record.digest(*(path.encode() for path in rows["path"].to_pylist())),
        detector_hash=detector.hash(),
        preprocessing_hash=detector.spec.preprocessing.hash,
        # A temperature that was given says nothing of these images.
        share_synthetic=share if settings.temperature is None else None,
        prevalence=settings.prevalence,
    )
    probabilities_N = undecided.apply(logits_N)
    decided = decide(
        settings,
        probabilities_N,
        labels_N,
        slices_N=np.asarray(slices) if slices else None,
        photographs_N=np.asarray(photographs(rows)),
        importance=importance,
    )
    even = slice(None) if importance is None else importance.even_N
    chosen = {
        "threshold": decided.threshold,
        "band": decided.band,
        "operating_point": decided.point,
    }
    return undecided.model_copy(update=chosen).with_observed(probabilities_N[even], labels_N[even])


def _scored(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels."""
    return (rows["logit"].to_numpy().astype(np.float64), rows["origin"].to_numpy().astype(np.int64))
