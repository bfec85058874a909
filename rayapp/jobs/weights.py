"""Published weights: fetched once through the catalogue, checked, kept as a detector's folder."""

import sys
from collections.abc import Mapping

from rayapp.config.errors import JobFailed, UserError
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import item_id, load_scheme, read_list
from rayapp.download.entry import Fetched, fetch_entry
from rayapp.download.origins.catalogue import Source, load_catalogue
from rayapp.models.detector import Detector
from rayapp.models.folder import SPEC_FILE, WEIGHTS_FILE, save_detector
from rayapp.models.published_weights import convert
from rayapp.models.scope import published_scope
from rayapp.run import record
from rayapp.run.resume import nothing_left
from rayapp.storage.uris import open_store, read_uri
from rayapp.weights.settings import WeightsSettings


def weights(settings: WeightsSettings) -> record.Run:
    """The detector in its folder; done once.

    Raises:
        UserError: see fetch_entry and convert.
        JobFailed: files that could not be had.
    """
    if (settings.name == "lasted") != (settings.anchors is not None):
        raise UserError(
            "--anchors LIST and --root FOLDER go with lasted, and lasted with them: "
            "it scores by similarity to real images"
        )
    entry = f"weights_{settings.name}"
    source = load_catalogue(settings.catalogue).choose([entry])[entry]
    inputs = {"entry": record.digest(source.model_dump_json().encode())}
    if settings.anchors:
        inputs["anchors"] = sha256(read_uri(settings.anchors))
    run = record.start(
        "weights", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if nothing_left(run):
        return run
    files = {uri: read_uri(uri) for uri in settings.files} or _fetched(settings, entry, source)
    detector = convert(settings.name, dict(files), _anchors(settings))
    provenance = {
        "published": settings.name,
        "from": list(source.at),
        "sha256": {name: sha256(data) for name, data in sorted(files.items())},
        "licence": source.licence,
        "attribution": source.attribution,
        "page": source.page,
    }
    scope = published_scope(settings.name)
    spec = detector.spec.model_copy(update={"provenance": provenance, "scope": scope})
    run.claim()
    digest = save_detector(Detector(detector.network, spec), run.store)
    counts = {"files": len(files), "bytes": sum(map(len, files.values()))}
    results = {"detector_hash": digest, **provenance}
    run.finish(counts, results, made=(SPEC_FILE, WEIGHTS_FILE))
    return run


def print_summary(run: record.Run) -> None:
    """Print where the detector is and on what terms."""
    run.print_summary({"detector": SPEC_FILE, "weights": WEIGHTS_FILE})
    print(f"  the detector: {published_scope(run.results['published']).line()}")
    print(f"  licence: {run.results['licence']}; to be named: {run.results['attribution']}")


def _fetched(settings: WeightsSettings, entry: str, source: Source) -> Mapping[str, bytes]:
    shown = 0

    def show(num_bytes: int) -> None:
        nonlocal shown
        if num_bytes > shown:
            print(f"{entry}: {num_bytes / 1e6:,.1f} MB fetched", file=sys.stderr, flush=True)
        shown = num_bytes

    try:
        found: list[Fetched] = fetch_entry(
            entry, settings.fetched, catalogue=settings.catalogue, show=show
        )
    except (UserError, JobFailed) as error:
        raise type(error)(f"{error}; {_by_hand(settings.name, source)}") from None
    return {file.key: read_uri(file.uri) for file in found}


def _by_hand(name: str, source: Source) -> str:
    """Which files are wanted, where they are published, and where they go then."""
    prefix = f"weights_{name}/"
    # A folder names no file; the hub's convention does.
    wanted = [path.removeprefix(prefix) for path in source.files] or ["model.safetensors"]
    where = source.page or source.at[0]
    return (
        f"or fetch {' and '.join(wanted)} by hand from {where} and give "
        f"{'them' if len(wanted) > 1 else 'it'}: --name {name} --files {' '.join(wanted)}"
    )


def _anchors(settings: WeightsSettings) -> list[bytes]:
    if settings.anchors is None:
        return []
    if settings.root is None:
        raise UserError("--anchors: a list needs --root, the folder that its paths start from")
    root = open_store(settings.root)
    items = read_list(settings.anchors, load_scheme(settings.scheme)).items
    return [read_uri(root.uri(item_id(item.path))) for item in items]
