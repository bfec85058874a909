"""Calibration from images: missing scores are predicted, the guard's hashes made, then the fit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rayapp.calibrate.fit import calibrate, check_labels, check_tells_origin
from rayapp.calibrate.settings import CalibrateJobSettings, CalibrateSettings
from rayapp.cluster.session import kept_open
from rayapp.config.errors import UserError
from rayapp.config.scoring import ScoringSettings
from rayapp.dataset import manifest
from rayapp.dataset.labels import Item, load_scheme, read_list
from rayapp.dataset.leakage import identities, leaks, refuse, training_lists
from rayapp.dataset.suites import load_suite
from rayapp.jobs.calibrate_identities import identify
from rayapp.jobs.predict_missing import score_missing
from rayapp.models.folder import load_detector
from rayapp.run import record
from rayapp.storage.uris import open_store, split_uri


@dataclass(frozen=True)
class _Set:
    """Images that calibration must stay off; `root` None: known by their paths only."""

    name: str
    items: list[Item]
    root: str | None


def calibrate_from_images(settings: CalibrateJobSettings) -> record.Run:
    """Score what has no score, hash what the guard compares, and calibrate.

    Raises:
        UserError: see calibrate; or a list of a suite is missing.
    """
    if not settings.root and not settings.scores:
        raise UserError("give --root, the folder of the images, or --scores, where they are scored")
    listed = read_list(settings.annotations, load_scheme(settings.scheme))
    check_labels(settings, listed)
    items = listed.items
    detector = load_detector(settings.detector)
    check_tells_origin(detector, settings.detector)
    items = read_list(settings.annotations, load_scheme(settings.scheme)).items
    kept = settings.scores or (f"{settings.output.rstrip('/')}-scores",)
    others = [*_given(settings), *_trained_on(detector.spec.provenance)]
    looks = settings.guard == "look" and settings.protocol == "clean" and bool(others)
    if settings.protocol == "clean":
        _refuse_paths(items, others, settings)
    own: str | None = None
    with kept_open():
        if settings.root:
            fields = settings.model_dump(include=set(ScoringSettings.model_fields))
            score_missing(
                (settings.detector, detector.hash()),
                [item.path for item in items],
                settings.root,
                kept,
                kept[0],
                ScoringSettings(**fields),
                settings,
            )
            if looks:
                paths = [item.path for item in items]
                own = identify(paths, settings.root, f"{kept[0]}/identities", settings)
        against = [_manifest(one, kept[0], looks, settings) for one in others]
    ready = [uri for uri in settings.against if uri.endswith(".parquet")]
    fields = settings.model_dump(include=set(CalibrateSettings.model_fields))
    fields |= {"scores": kept, "against": (*ready, *against), "identities": own}
    return calibrate(CalibrateSettings(**fields))


def _refuse_paths(
    items: list[Item], others: Sequence[_Set], settings: CalibrateJobSettings
) -> None:
    """What the paths alone tell, before an image is read; under one root they are the images."""
    own = identities(items, [])
    for one in others:
        if one.root == settings.root:
            found = leaks(own, identities(one.items, []))
            refuse(found, own.num_rows, one.name, "take other images, or --protocol legacy")


def _given(settings: CalibrateJobSettings) -> Iterator[_Set]:
    """The lists that the user names, and those of the suites."""
    scheme = load_scheme(settings.scheme)
    for uri in settings.against:
        if not uri.endswith(".parquet"):
            name = uri.rpartition("/")[2].removesuffix(".txt")
            yield _Set(name, read_list(uri, scheme).items, settings.root)
    for name in settings.suite:
        suite = load_suite(name)
        if settings.lists is None and settings.root is None:
            raise UserError(f"suite {suite.name}: give --lists, the folder of its lists")
        folder = settings.lists or f"{str(settings.root).rstrip('/')}/lists"
        store = open_store(folder)
        there = [n for n in suite.made_from.values() if store.stat(n) is not None]
        lists = [read_list(store.uri(n), suite.labels()) for n in (*suite.lists, *there)]
        yield _Set(suite.name, [item for one in lists for item in one.items], settings.root)


def _trained_on(provenance: Mapping[str, Any]) -> Iterator[_Set]:
    """The lists that the detector was trained on, as far as it says so and they can be read."""
    root = provenance.get("settings", {}).get("root")
    there = root is not None and next(iter(open_store(root).list()), None) is not None
    for number, items in enumerate(training_lists(provenance)):
        if isinstance(items, UserError):
            print(f"not guarded against: {items}")
        else:
            yield _Set(f"training-{number}", items, root if there else None)


def _manifest(one: _Set, folder: str, looks: bool, settings: CalibrateJobSettings) -> str:
    """URI of a manifest of the set's images, under the set's name."""
    known = []
    if looks and one.root:
        paths = [item.path for item in one.items]
        uri = identify(paths, one.root, f"{folder}/identities", settings)
        known.append(manifest.read_table(*split_uri(uri)))
    store = open_store(folder)
    key = f"against/{one.name}.parquet"
    table = identities(one.items, known)
    if store.stat(key) is None or not manifest.read_table(store, key).equals(table):
        manifest.write_table(store, key, table)
    return store.uri(key)
