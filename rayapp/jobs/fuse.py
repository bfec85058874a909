"""Fusion: scores of every detector, the weights fitted on them, and one calibrated detector."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from rayapp import load_detector
from rayapp.calibrate.fit import calibrate, check_tells_origin
from rayapp.calibrate.settings import CalibrateSettings
from rayapp.cluster.session import kept_open
from rayapp.config.errors import UserError
from rayapp.config.scoring import ScoringSettings
from rayapp.dataset import manifest
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import item_id, load_scheme, read_list
from rayapp.dataset.leakage import identities, leaks, refuse
from rayapp.dataset.scores import SCORES_FILE, photographs, read_matching, schema, select, with_root
from rayapp.evaluate.detectors import short_names
from rayapp.fuse import fusion_fit
from rayapp.fuse.settings import FuseSettings
from rayapp.jobs.calibrate_guard import Guarded, identify, read, refuse_paths, trained_on, written
from rayapp.jobs.predict_missing import score_missing
from rayapp.models.detector import Detector, DetectorSpec
from rayapp.models.detector_spec import Architecture, HeadSettings
from rayapp.models.folder import SPEC_FILE, WEIGHTS_FILE, save_detector
from rayapp.models.fused_network import FusedNetwork
from rayapp.models.fusion import Fusion
from rayapp.models.scope import Scope
from rayapp.run import record
from rayapp.run.resume import nothing_left
from rayapp.storage.uris import open_store, read_uri

DETECTOR_FOLDER = "detector"
UNCALIBRATED_FOLDER = "uncalibrated"
SCORES_FOLDER = "scores"
_WHAT_TO_DO = "take other images"


def fuse(settings: FuseSettings) -> record.Run:
    """Write the fused, calibrated detector; figures in the run's results.

    Raises:
        UserError: a detector that is none, stands twice or tells something else; an image without
            a score or of a training list; one class only, or too few reals for the rate.
    """
    detectors = [load_detector(uri) for uri in settings.detectors]
    names = settings.names or short_names([uri.rstrip("/") for uri in settings.detectors])
    _check(detectors, settings)
    tables = _scored(detectors, names, settings)
    logits_NP = np.column_stack([table["logit"].to_numpy().astype(np.float64) for table in tables])
    labels_N = tables[0]["origin"].to_numpy().astype(np.int64)
    inputs = {
        **{f"detector {name}": d.hash() for name, d in zip(names, detectors, strict=True)},
        "annotations": sha256(read_uri(settings.annotations)),
        "scores": record.digest(np.asarray(logits_NP, np.float32).tobytes()),
    }
    method = settings.fusion
    fusion_fit.check_direction(logits_NP, labels_N, names)
    weights = fusion_fit.fit_weights(method, logits_NP, labels_N, names)
    figures = fusion_fit.judge(method, logits_NP, labels_N, names, photographs(tables[0]))
    run = record.start(
        "fuse", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if nothing_left(run):
        return run
    run.claim()
    fusion = fusion_fit.make_fusion(method, weights, detectors, names, settings.disagree_above)
    fused = fused_detector(fusion, detectors)
    save_detector(fused, open_store(run.store.uri(UNCALIBRATED_FOLDER)))
    _write_scores(run, fused, tables[0], fusion.fused(logits_NP))
    calibrated = calibrate(_calibration(settings, run))
    run.finish(
        calibrated.counts,
        {
            "weights": {part.name: part.weight for part in fusion.parts},
            "bias": fusion.bias,
            "figures": asdict(figures),
            "disagree": sum(map(bool, fusion.reasons(logits_NP))),
            "decisions": calibrated.results["decisions"],
            "threshold": calibrated.results["threshold"],
            "band": calibrated.results["band"],
            "warning": calibrated.results["warning"],
        },
        made=tuple(f"{DETECTOR_FOLDER}/{name}" for name in (SPEC_FILE, WEIGHTS_FILE)),
    )
    return run


def _check(detectors: Sequence[Detector], settings: FuseSettings) -> None:
    hashes = [detector.hash() for detector in detectors]
    for uri, detector, digest in zip(settings.detectors, detectors, hashes, strict=True):
        check_tells_origin(detector, uri)
        if detector.spec.fusion:
            raise UserError(f"{uri}: is a fusion itself; give the detectors that it is made of")
        if hashes.count(digest) > 1:
            raise UserError(f"{uri}: stands twice among the detectors, by this or another name")


def _scored(
    detectors: Sequence[Detector], names: Sequence[str], settings: FuseSettings
) -> list[pa.Table]:
    """The scores of the list's images by each detector, none of which was trained on one."""
    scheme = load_scheme(settings.scheme)
    items = read_list(settings.annotations, scheme).items
    others = [
        one
        for name, detector in zip(names, detectors, strict=True)
        for one in trained_on(detector.spec.provenance, name)
    ]
    refuse_paths(items, others, settings.root, _WHAT_TO_DO)
    looks = settings.guard == "look" and bool(others)
    kept = settings.scores or (f"{settings.output.rstrip('/')}-scores",)
    paths = [item.path for item in items]
    if settings.root:
        if looks:
            own = identify(paths, settings.root, f"{kept[0]}/identities", settings)
            _guard(others, read(own), kept, settings)
        _score(detectors, paths, kept, settings)
    wanted = [item_id(path) for path in paths]
    found = [read_matching(kept, d.hash(), settings.root, wanted) for d in detectors]
    tables = [select(one, items, scheme, settings.annotations) for one in found]
    if looks and not settings.root:  # the scores know the bytes
        _guard(others, identities(items, tables), kept, settings)
    return tables


def _guard(
    others: Sequence[Guarded], own: pa.Table, kept: tuple[str, ...], settings: FuseSettings
) -> None:
    """Refuse images that a detector was trained on: by path, by bytes and by look."""
    found = []
    with kept_open():
        for one in others:
            known = read(written(one, kept[0], True, settings))
            found.append((one.what, leaks(own, known)))
    refuse(found, own, _WHAT_TO_DO)


def _score(
    detectors: Sequence[Detector], paths: list[str], kept: tuple[str, ...], settings: FuseSettings
) -> None:
    """Score what has no score in the folders `kept`, by every detector."""
    fields = settings.model_dump(include=set(ScoringSettings.model_fields))
    with kept_open():
        for uri, detector in zip(settings.detectors, detectors, strict=True):
            score_missing(
                (uri, detector.hash()),
                paths,
                str(settings.root),
                kept,
                kept[0],
                ScoringSettings(**fields),
                settings,
            )


def fused_detector(fusion: Fusion, detectors: Sequence[Detector]) -> Detector:
    """The detectors as one; not calibrated."""
    first = detectors[0].spec
    about = f"a fusion of {', '.join(part.name for part in fusion.parts)} ({fusion.method})"
    spec = DetectorSpec(
        architecture=Architecture(backbone="fusion", head=HeadSettings(hidden=0, norm="none")),
        strides={},
        preprocessing=first.preprocessing,
        labels=first.labels,
        fusion=fusion,
        scope=Scope(about=about),
    )
    return Detector(FusedNetwork([one.network for one in detectors], fusion), spec)


def _write_scores(run: record.Run, fused: Detector, rows: pa.Table, logits_N: np.ndarray) -> None:
    """The fused scores of the list's images, which calibration reads."""
    columns = {name: rows[name] for name in schema().names if name in rows.column_names}
    columns |= {
        "logit": pa.array(logits_N.astype(np.float32)),
        "detector_hash": pa.array([fused.hash()] * rows.num_rows),
        "preprocessing_hash": pa.array([fused.spec.preprocessing.hash] * rows.num_rows),
    }
    table = pa.table(columns)
    wanted = with_root(table.schema, rows["root"][0].as_py())
    store = open_store(run.store.uri(SCORES_FOLDER))
    manifest.write_table(store, SCORES_FILE, table.replace_schema_metadata(wanted.metadata))


def _calibration(settings: FuseSettings, run: record.Run) -> CalibrateSettings:
    asked = settings.model_dump(
        include={"annotations", "root", "scheme", "method", "fpr", "confidence", "band_error"}
    )
    return CalibrateSettings(
        detector=run.store.uri(UNCALIBRATED_FOLDER),
        scores=(run.store.uri(SCORES_FOLDER),),
        output=run.store.uri(DETECTOR_FOLDER),
        overwrite=True,  # the folder is this run's own
        **asked,
    )
