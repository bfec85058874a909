"""Pairs on Ray Data: each real image read once, cut, rendered and written beside its partner."""

import os
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from rayapp.cluster.map_rows import Resources, in_process, map_rows
from rayapp.cluster.session import on_demand
from rayapp.config.errors import JobFailed, UserError
from rayapp.config.paths import absolute_uri, check_output
from rayapp.dataset import manifest
from rayapp.dataset.among_files import describe_left_out, images_among
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import Item, LabelScheme, item_id, load_scheme, path_fault, read_lists
from rayapp.download.entry import fetch_entry
from rayapp.download.origins.catalogue import load_catalogue
from rayapp.models.autoencoders.autoencoder_spec import (
    StoredAutoencoder,
    load_autoencoder_spec,
    stored_autoencoder,
)
from rayapp.models.autoencoders.round_trip import takes_noise
from rayapp.reconstruct.pair_draws import PairDraws
from rayapp.reconstruct.pair_rows import DrawnPairRows, PairRows
from rayapp.reconstruct.pair_sheet import write_preview
from rayapp.reconstruct.settings import FETCHED, PLACEMENT, ReconstructSettings
from rayapp.reconstruct.written import (
    ALL_IMAGES,
    MANIFEST,
    SCHEME,
    TABLE,
    Tally,
    expand,
    manifest_schema,
    pairs_scheme,
    row_schema,
    taken_items,
    twins,
    write_lists,
    write_pairs_table,
    write_scheme,
)
from rayapp.run import record
from rayapp.run.resume import check_still_there, nothing_left, outputs_there
from rayapp.run.row_parts import Parts, drop_parts
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store, read_uri, split_uri
from rayapp.transforms.perturbations import load_perturbation

_SMALL = 32  # images that are done without Ray, on all CPUs
_FEW = 4
_BLOCK_ROWS = 16  # of one task of Ray: an image takes a second or so
_PX_AT_ONCE = 1 << 20  # of cuts that one process renders at a time: 2 GB (measured: 1.2)
_CARRIED = ("source", "licence", "group")


def reconstruct(settings: ReconstructSettings) -> record.Run:
    """Make the pair of every real image, or go on with it; images that failed are tried again.

    Raises:
        UserError: wrong lists, or an autoencoder that is not there or takes no such noise; an
            output that belongs to another run.
        JobFailed: images of a finished run are gone.
    """
    stored = _autoencoders(settings)
    root = open_store(settings.root)
    scheme, taken = _taken(settings, root, [one.spec.name for one in stored])
    run = _start(settings, stored, taken)
    if nothing_left(run, retry_failed=True):
        check_still_there(run, MANIFEST)
    else:
        with on_demand(settings):
            rows = _work_list(taken, scheme, settings)
            made = _made(rows, root, stored, run, settings, scheme)
        _finish(run, made, taken, scheme, stored, rows, settings)
    if settings.preview and run.counts["pairs"]:
        write_preview(run.store, manifest.read_table(run.store, MANIFEST), settings.preview)
    return run


def _autoencoders(settings: ReconstructSettings) -> tuple[StoredAutoencoder, ...]:
    stored = tuple(_autoencoder(one, settings) for one in settings.autoencoder)
    names = [one.spec.name for one in stored]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"--autoencoder: two of the name {twice}; give one of them another")
    return stored


def _autoencoder(name: str, settings: ReconstructSettings) -> StoredAutoencoder:
    spec = load_autoencoder_spec(name)
    fetched = settings.weights is None and spec.catalogue
    files = _fetched(spec.catalogue, settings) if fetched else {}
    stored = stored_autoencoder(spec, settings.weights, files)
    if spec.whole_px and settings.side > spec.whole_px:
        raise UserError(
            f"--side {settings.side}: {spec.name} does a cut whole, which takes more than 2 GB "
            f"beyond {spec.whole_px} px; give --side {spec.whole_px} at most, or a YAML "
            "file of your own with another whole_px"
        )
    if settings.latent_noise and not takes_noise(stored):
        raise UserError(f"--latent-noise: a {spec.kind} autoencoder shows no latent; leave it out")
    return stored


def _fetched(entry: str, settings: ReconstructSettings) -> Mapping[str, str]:
    """File name → URI of an entry's files, fetched once.

    Raises:
        UserError, JobFailed: they could not be had; the line says what to do by hand.
    """
    try:
        where = settings.fetched or check_output(absolute_uri(FETCHED))
        found = fetch_entry(entry, where, catalogue=settings.catalogue)
    except ValueError as error:
        raise UserError(f"--fetched: {error}") from None
    except (UserError, JobFailed) as error:
        source = load_catalogue(settings.catalogue).sources.get(entry)
        page = f" from {source.page}" if source and source.page else ""
        raise type(error)(
            f"{error}; or fetch them by hand{page} and give --weights FOLDER"
        ) from None
    return {one.key.rsplit("/", 1)[-1]: one.uri for one in found}


def _taken(
    settings: ReconstructSettings, root: Store, names: Sequence[str]
) -> tuple[LabelScheme, dict[str, list[Item]]]:
    """The pairs' scheme, and the real images by list."""
    if settings.annotations:
        given = load_scheme(settings.scheme)
        scheme = pairs_scheme(given, names)
        return scheme, taken_items(read_lists(settings.annotations, given), scheme)
    scheme = pairs_scheme(None, names)
    own = f"{open_store(settings.output).root}/".removeprefix(f"{root.root}/")
    found = (stat for stat in root.list() if not stat.key.startswith(own))  # that is no input
    keys, left_out = images_among(root, found)
    if left_out:
        print(f"left out, no images: {describe_left_out(left_out)}")
    if faults := [fault for key in keys if (fault := path_fault(key))]:
        raise UserError(f"{root.root}: {faults[0]}")
    if not keys:
        raise UserError(f"{root.root}: --root holds no image")
    return scheme, {ALL_IMAGES: [Item(item_id(key), key, (0, 0)) for key in keys]}


def _start(
    settings: ReconstructSettings,
    stored: Sequence[StoredAutoencoder],
    taken: Mapping[str, Sequence[Item]],
) -> record.Run:
    inputs = {uri: sha256(read_uri(uri)) for uri in settings.annotations}
    inputs |= {f"autoencoder {one.spec.name}": one.hash for one in stored}
    inputs["root"] = settings.root
    if not settings.annotations:
        ids = [item.id.encode() for items in taken.values() for item in items]
        inputs["images"] = record.digest(*ids)
    if settings.manifest:
        inputs[settings.manifest] = sha256(read_uri(settings.manifest))
    if settings.perturbation:
        inputs["perturbation"] = load_perturbation(settings.perturbation).hash
    return record.start(
        "reconstruct",
        settings,
        inputs,
        output=settings.output,
        overwrite=settings.overwrite,
        placement=PLACEMENT,
    )


def _work_list(
    taken: Mapping[str, Sequence[Item]], scheme: LabelScheme, settings: ReconstructSettings
) -> pa.Table:
    """One row a real image: id, path, labels, and what its own manifest knows."""
    table = manifest.item_rows([item for items in taken.values() for item in items], scheme)
    draws, count = PairDraws.of(settings), len(settings.autoencoder)
    drawn = [draws.autoencoder(identity, count) for identity in table["id"].to_pylist()]
    table = table.append_column("drawn", pa.array(drawn, pa.int16()))
    if settings.manifest is None:
        return table
    known = manifest.read_table(*split_uri(settings.manifest))
    at = {item_id(path): index for index, path in enumerate(known["path"].to_pylist())}
    places = [at.get(identity) for identity in table["id"].to_pylist()]
    for column in _CARRIED:
        if column in known.column_names:
            values = known[column].to_pylist()
            carried = [None if place is None else values[place] for place in places]
            table = table.append_column(column, pa.array(carried, pa.string()))
    return table


def _made(
    rows: pa.Table,
    root: Store,
    stored: Sequence[StoredAutoencoder],
    run: record.Run,
    settings: ReconstructSettings,
    scheme: LabelScheme,
) -> Parts:
    """Every row through the autoencoder, in this process or on Ray."""
    resources = Resources(1.0, settings.gpus_per_worker, settings.num_workers)
    cpus = settings.cpus or len(os.sched_getaffinity(0))
    most_px = min((one.spec.whole_px**2 or _PX_AT_ONCE for one in stored), default=_PX_AT_ONCE)
    at_once = max(1, min(cpus, most_px // settings.side**2))
    # Where memory keeps CPUs idle in one process, Ray's workers are sooner done with all but a few.
    small = _SMALL if at_once == cpus else _FEW
    alone = in_process(run, rows.num_rows, resources, small)
    if not alone:
        at_once = 1
    works = [
        PairRows(
            root,
            run.store,
            one,
            PairDraws.of(settings),
            settings.align,
            load_perturbation(settings.perturbation) if settings.perturbation else None,
            settings.format,
            device="cuda" if settings.gpus_per_worker else "cpu",
            at_once=at_once,
        )
        for one in stored
    ]
    return map_rows(
        rows.sort_by("id"),
        DrawnPairRows(works),
        row_schema(scheme),
        run=run,
        batch_size=max(settings.batch_size, 2 * at_once),
        resources=resources,
        wait_s=settings.wait_s,
        max_block_rows=max(_BLOCK_ROWS, settings.batch_size),
        verify=outputs_there(run.store),
        small=small,
    )


def _finish(
    run: record.Run,
    made: Parts,
    taken: Mapping[str, Sequence[Item]],
    scheme: LabelScheme,
    stored: Sequence[StoredAutoencoder],
    rows: pa.Table,
    settings: ReconstructSettings,
) -> None:
    """Write manifest, lists, table, scheme and run.json, in this order."""
    tally = Tally()
    hashes = {one.spec.name: one.hash for one in stored}
    drawn = dict(zip(rows["id"].to_pylist(), rows["drawn"].to_pylist(), strict=True))

    same = twins(made.chunks())

    def chunks() -> Iterator[pa.Table]:
        for part in made.chunks():
            yield expand(part, scheme, list(hashes.values()), settings.format, same)

    def counted() -> Iterator[pa.Table]:
        for whole in chunks():
            tally.add(whole)
            yield whole

    manifest.write_chunks(run.store, MANIFEST, counted(), manifest_schema(scheme))
    keys = write_lists(run.store, taken, tally.unpaired, drawn, scheme, settings.format)
    write_pairs_table(run.store, chunks(), list(hashes))
    write_scheme(run.store, scheme)
    pairs = tally.counts[manifest.STATUS_OK] // 2
    counts = {"in": made.num_rows, "pairs": pairs, "failed": made.num_failed}
    if tally.left_out:
        counts["left out"] = tally.left_out.total()
    results = {
        "lists": keys,
        "misses": tally.misses,
        "alignment": dict(tally.alignment.most_common()),
        "left_out": dict(tally.left_out.most_common()),
        "left_out_paths": tally.left_out_paths,
        "autoencoders": hashes,
        "files": {one.spec.name: dict(sorted(one.sha256.items())) for one in stored},
        "pixels_sha256": tally.pixels_sha256,
    }
    run.finish(counts, results, made=(MANIFEST, SCHEME, TABLE, *keys))
    if not made.num_failed:
        drop_parts(run.store)
