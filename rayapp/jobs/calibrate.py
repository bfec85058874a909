"""Calibration from images: missing scores are predicted, the guard's hashes made, then the fit."""

from collections.abc import Iterator, Mapping

from rayapp.calibrate.fit import calibrate, check_labels, check_tells_origin
from rayapp.calibrate.given import read_given
from rayapp.calibrate.guarded_images import guarded_tables
from rayapp.calibrate.settings import CalibrateJobSettings, CalibrateSettings
from rayapp.cluster.session import kept_open
from rayapp.config.errors import UserError
from rayapp.config.scoring import ScoringSettings
from rayapp.dataset.labels import load_scheme, read_list
from rayapp.dataset.leakage import leaks, refuse
from rayapp.dataset.suites import load_suite
from rayapp.jobs.calibrate_guard import Guarded, identify, read, refuse_paths, trained_on, written
from rayapp.jobs.predict_missing import score_missing
from rayapp.models.folder import load_detector
from rayapp.run import record
from rayapp.storage.uris import open_store

_WHAT_TO_DO = "take other images, or --protocol legacy"


def calibrate_from_images(settings: CalibrateJobSettings) -> record.Run:
    """Score what has no score, hash what the guard compares, and calibrate.

    Raises:
        UserError: see calibrate; or a list of a suite is missing.
    """
    if not settings.root and not settings.scores:
        raise UserError("give --root, the folder of the images, or --scores, where they are scored")
    listed = read_given(settings).listed
    check_labels(settings, listed)
    items = listed.items
    detector = load_detector(settings.detector)
    check_tells_origin(detector, settings.detector)
    kept = settings.scores or (f"{settings.output.rstrip('/')}-scores",)
    others = [*_given(settings), *trained_on(detector.spec.provenance)]
    looks = settings.guard == "look" and settings.protocol == "clean" and bool(others)
    if settings.protocol == "clean":
        refuse_paths(items, others, settings.root, _WHAT_TO_DO)
    own: str | None = None
    paths = [item.path for item in items]
    with kept_open():
        if looks and settings.root:
            own = identify(paths, settings.root, f"{kept[0]}/identities", settings)
        against = [written(one, kept[0], looks, settings) for one in others]
        named = {uri: one.what for one, uri in zip(others, against, strict=True)}
        leaked = _compared(own, named, settings) if own else None
        if settings.root:
            fields = settings.model_dump(include=set(ScoringSettings.model_fields))
            score_missing(
                (settings.detector, detector.hash()),
                paths,
                settings.root,
                kept,
                kept[0],
                ScoringSettings(**fields),
                settings,
            )
    ready = [uri for uri in settings.against if uri.endswith(".parquet")]
    fields = settings.model_dump(include=set(CalibrateSettings.model_fields))
    fields |= {"scores": kept, "against": (*ready, *against), "identities": own}
    return calibrate(CalibrateSettings(**fields), leaked)


def _compared(own: str, named: Mapping[str, str], settings: CalibrateJobSettings) -> dict[str, int]:
    """What paths, bytes and looks say, before an image is scored: of each manifest none leaks."""
    ready = [uri for uri in settings.against if uri.endswith(".parquet")]
    mine, tables = read(own), guarded_tables((*ready, *named), load_scheme(settings.scheme))
    found = {uri: leaks(mine, table) for uri, table in tables.items()}
    refuse([(named.get(uri, uri), table) for uri, table in found.items()], mine, _WHAT_TO_DO)
    return {uri: table.num_rows for uri, table in found.items()}


def _given(settings: CalibrateJobSettings) -> Iterator[Guarded]:
    """The lists that the user names, and those of the suites."""
    scheme = load_scheme(settings.scheme)
    for uri in settings.against:
        if not uri.endswith(".parquet"):
            yield Guarded(uri, read_list(uri, scheme).items, settings.root)
    for name in settings.suite:
        suite = load_suite(name)
        if settings.lists is None and settings.root is None:
            raise UserError(f"suite {suite.name}: give --lists, the folder of its lists")
        folder = settings.lists or f"{str(settings.root).rstrip('/')}/lists"
        store = open_store(folder)
        there = [n for n in suite.made_from.values() if store.stat(n) is not None]
        lists = [read_list(store.uri(n), suite.labels()) for n in (*suite.lists, *there)]
        yield Guarded(suite.name, [item for one in lists for item in one.items], settings.root)
