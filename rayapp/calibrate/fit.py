"""Calibration: from stored scores to a detector that says how sure it is."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from rayapp import load_detector
from rayapp.calibrate.settings import CalibrateSettings
from rayapp.config.errors import UserError
from rayapp.dataset import leakage, manifest
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import LabelScheme, item_id, load_scheme, read_list
from rayapp.dataset.scores import read_matching, select
from rayapp.models.calibration import calibrators, decisions
from rayapp.models.calibration.calibrators import Calibration
from rayapp.models.detector import Detector
from rayapp.models.folder import save_detector
from rayapp.run import record
from rayapp.storage.uris import read_uri


def fit_calibrator(
    settings: CalibrateSettings, logits_N: np.ndarray, labels_N: np.ndarray
) -> calibrators.Calibrator:
    """The map from logit to probability that the settings ask for.

    Raises:
        UserError: see `calibrators.fit`.
    """
    if settings.temperature is None:
        return calibrators.fit(settings.method, logits_N, labels_N)
    return calibrators.Calibrator(
        method="temperature",
        parameters={"temperature": settings.temperature},
        n=len(logits_N),
    )


def calibrate(settings: CalibrateSettings) -> record.Run:
    """Write the calibrated detector, and the images that it rests on; figures in the run's results.

    Raises:
        UserError: scores of another detector, an image without a score, one class only, or
            (`clean`) an image that is also in one of `against`.
    """
    detector = load_detector(settings.detector)
    check_tells_origin(detector, settings.detector)
    scheme = load_scheme(settings.scheme)
    items = read_list(settings.annotations, scheme).items
    ids = [item_id(item.path) for item in items]
    table = read_matching(settings.scores, detector.hash(), settings.root)
    rows = select(table, items, scheme, settings.annotations)
    inputs = {
        "detector": detector.hash(),
        "scores": record.digest(np.asarray(rows["logit"], np.float32).tobytes()),
        "annotations": sha256(read_uri(settings.annotations)),
        **{uri: sha256(read_uri(uri)) for uri in settings.against},
    }
    forbidden = _tables(settings, scheme)
    known = [manifest.read_table_uri(settings.identities)] if settings.identities else []
    own = leakage.identities(items, [*known, rows])
    leaked = _guarded(own, forbidden, settings)  # before anything is written
    run = record.start(
        "calibrate", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if run.state == "done":
        return run
    logits = rows["logit"].to_numpy().astype(np.float64)
    labels = rows["origin"].to_numpy().astype(np.int64)
    fitted = fit_calibrator(settings, logits, labels)
    calibration = _decided(fitted, logits, labels, settings, detector, ids)
    spec = detector.spec.model_copy(update={"calibration": calibration})
    manifest.write_table(run.store, leakage.ITEMS_FILE, own)
    save_detector(Detector(detector.network, spec), run.store)
    counts = {"in": len(labels), "real": int((labels == 0).sum()), "synthetic": int(labels.sum())}
    run.finish(
        counts,
        {
            "method": fitted.method,
            "parameters": fitted.parameters,
            "slope_interval": fitted.slope_interval,
            "warning": fitted.warning,
            "threshold": calibration.threshold,
            "band": calibration.band,
            "leaked": leaked,
        },
    )
    return run


def check_tells_origin(detector: Detector, name: str) -> None:
    """Nothing where the detector has one output.

    Raises:
        UserError: it tells classes apart, and has no probability to be calibrated.
    """
    if detector.spec.architecture.head.num_outputs > 1:
        column = detector.spec.labels.column
        raise UserError(f"{name}: tells {column} apart, not real from synthetic; there is nothing "
                        "to calibrate")  # fmt: skip


def _tables(settings: CalibrateSettings, scheme: LabelScheme) -> dict[str, pa.Table]:
    """What each of `against` knows of its images: path, and sha256 and look where it has them."""
    found = {}
    for uri in settings.against:
        if uri.endswith(".parquet"):
            table = manifest.read_table_uri(uri)
            missing = {"path"} - set(table.column_names)
            if missing:
                raise UserError(f"{uri}: no manifest, it has no column path")
            found[uri] = table.select([c for c in leakage.COLUMNS if c in table.column_names])
        else:
            found[uri] = leakage.identities(read_list(uri, scheme).items, [])
    return found


def _guarded(
    own: pa.Table, forbidden: dict[str, pa.Table], settings: CalibrateSettings
) -> dict[str, int]:
    """How many calibration images are in each of `against`; under `clean` there may be none."""
    leaked = {}
    for uri, table in forbidden.items():
        found = leakage.leaks(own, table)
        leaked[uri] = found.num_rows
        if settings.protocol == "clean":
            leakage.refuse(found, own.num_rows, uri,
                         "take other images, or --protocol legacy")  # fmt: skip
    return leaked


def _decided(
    fitted: calibrators.Calibrator,
    logits_N: np.ndarray,
    labels_N: np.ndarray,
    settings: CalibrateSettings,
    detector: Detector,
    ids: Sequence[str],
) -> Calibration:
    """Threshold and band, chosen on the calibration images alone."""
    probabilities = fitted.apply(logits_N)
    threshold = 0.5
    if settings.fpr is not None:
        threshold = decisions.threshold_at_fpr(probabilities, labels_N, settings.fpr)
    band = decisions.abstain_band(probabilities, labels_N, threshold, settings.band_error)
    return Calibration(
        method=fitted.method,
        parameters=fitted.parameters,
        threshold=threshold,
        band=band,
        n=len(labels_N),
        items_hash=record.digest(*(name.encode() for name in ids)),
        detector_hash=detector.hash(),
        preprocessing_hash=detector.spec.preprocessing.hash,
    )
