"""Prune on Ray Data: folders walked side by side, then what is to go removed."""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from rayapp.cluster.map_rows import map_rows
from rayapp.cluster.session import session
from rayapp.config.errors import JobFailed, UserError
from rayapp.dataset import manifest
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import load_scheme, read_lists
from rayapp.prune import keep_or_remove
from rayapp.prune.remove import RemoveRows, remove_empty_folders
from rayapp.prune.settings import PruneSettings
from rayapp.prune.walk import WALKED, split, walk
from rayapp.run import record
from rayapp.run.progress import Progress
from rayapp.run.row_parts import drop_parts
from rayapp.storage.store import LocalStore, Store
from rayapp.storage.uris import open_store, read_uri

DECISIONS_FILE = "decisions.parquet"
REMOVED_FILE = "removed.parquet"
_AT_WORK = "applying.parquet"
_BATCH = 1000  # what S3 deletes in one request
_SHOWN = 10
_LEAST_TASKS, _TASKS_PER_CPU = 16, 4  # of a walk: each costs Ray some hundredths of a second
_REMOVED = pa.schema(
    [
        pa.field("id", pa.string()),
        *WALKED,
        pa.field("status", pa.string()),
        pa.field("error", pa.string()),
    ]
)


def prune(settings: PruneSettings) -> record.Run:
    """Decide, and with `apply` do what was decided; cut off, the same command finishes.

    Raises:
        UserError: the wrong root, missing images, no confirmation; nothing was removed then.
    """
    root = open_store(settings.root)
    trash = open_store(settings.trash) if settings.trash else None
    _check_places(root, trash, settings)
    run = _start(settings, root)
    own = _own(root, settings)
    with session(settings):
        if settings.apply and run.state != "new" and run.store.stat(_AT_WORK):
            print("an application was cut off: finishing it", file=sys.stderr)
        else:
            whole = _decided(settings, root, run, own)
            if not settings.apply:
                return run
            if not settings.allow_missing:
                keep_or_remove.check_complete(whole, root.root)
            going = keep_or_remove.of(whole, keep_or_remove.REMOVE)
            if not going.num_rows:
                return run
            _confirm(going, root, trash, settings)
            drop_parts(run.store)
            manifest.write_table(run.store, _AT_WORK, _numbered(going))
        _apply(run, root, trash, settings, own)
    return run


def _start(settings: PruneSettings, root: Store) -> record.Run:
    inputs = {uri: sha256(read_uri(uri)) for uri in settings.annotations} | {"root": root.root}
    plain = {"apply": False, "trash": None, "yes": False, "allow_missing": False, "root": root.root}
    looking = settings.model_copy(update=plain)  # decided first, applied then: one run
    return record.start(
        "prune", looking, inputs, output=settings.output, overwrite=settings.overwrite
    )


def _check_places(root: Store, trash: Store | None, settings: PruneSettings) -> None:
    if trash and not settings.apply:
        raise UserError("--trash says where --apply moves files to; give --apply with it")
    if trash:
        places = [f"{_real(one.root).rstrip('/')}/" for one in (trash, root)]
        if places[0].startswith(places[1]) or places[1].startswith(places[0]):
            raise UserError(f"{trash.root}: --trash and --root may not lie in each other")


def _real(place: str) -> str:
    """A place by its own name: links on the way to a local one are followed."""
    return place if "://" in place else os.path.realpath(place)


def _own(root: Store, settings: PruneSettings) -> list[str]:
    """What lies under the root and is ours: the lists given, and this job's own output."""
    output = f"{_real(open_store(settings.output).root)}/"
    places = [*(_real(uri) for uri in settings.annotations), output]
    start = f"{_real(root.root).rstrip('/')}/"
    own = [place.removeprefix(start) for place in places if place.startswith(start)]
    if "" in own:
        raise UserError(f"{settings.output}: --output is the --root itself; give another")
    return own


def _decided(settings: PruneSettings, root: Store, run: record.Run, own: Sequence[str]) -> pa.Table:
    scheme = load_scheme(settings.scheme)
    lists = read_lists(settings.annotations, scheme)
    annotated = list({item.path: None for one in lists for item in one.items})
    walked = walk_all(root, run.job)
    whole = keep_or_remove.decide(walked, annotated, own=own, is_run=record.holds_run(root))
    run.claim()
    manifest.write_table(run.store, DECISIONS_FILE, whole)
    folders, close = keep_or_remove.by_folder(whole), keep_or_remove.near_misses(whole)
    counts = asdict(keep_or_remove.total(folders))
    del counts["folder"]
    results = {"folders": [asdict(one) for one in folders], "near_misses": close[:_SHOWN]}
    run.finish(counts, results | {"applied": False}, made=(DECISIONS_FILE,))
    print("\n".join(keep_or_remove.table_lines(folders)))
    for line in close[:_SHOWN]:
        print(f"nearly annotated: {line}")
    if len(close) > _SHOWN:
        more = f"{len(close) - _SHOWN:,} more, the notes in {run.store.uri(DECISIONS_FILE)}"
        print(f"nearly annotated: {more}")
    keep_or_remove.check_root(whole, root.root)
    return whole


def walk_all(root: Store, job: str) -> pa.Table:
    """Every file under the root (`WALKED`): tasks of Ray walk some folders each, side by side.

    Raises:
        JobFailed: a folder can't be read.
    """
    tasks = max(_LEAST_TASKS, _TASKS_PER_CPU * int(ray.cluster_resources().get("CPU", 1)))
    first, folders = split(root, enough=4 * tasks)
    if not folders:
        return first
    shares = [_as_block(folders[at::tasks]) for at in range(min(tasks, len(folders)))]
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = 0  # a folder that was not read is no empty folder
    walked = ray.data.from_blocks(shares).map_batches(
        _walk_block, fn_args=(root,), batch_size=None, batch_format="pyarrow"
    )
    found, files = [first], first.num_rows
    with Progress(f"{job} walk", len(shares), unit="parts") as progress:
        try:
            for block in walked.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            ):
                found.append(block.cast(WALKED))
                files += block.num_rows
                progress.update(note=f"{files:,} files")
        except ray.exceptions.RayError as error:
            raise JobFailed(f"{root.root}: {str(error).strip().splitlines()[-1]}") from error
        progress.update(len(shares) - progress.done)  # folders without files send no block
    return pa.concat_tables(found).combine_chunks()


def _as_block(folders: Sequence[str]) -> pa.Table:
    names = [folder.encode("utf-8", "surrogateescape") for folder in folders]
    return pa.table({"folder": pa.array(names, pa.binary())})


def _walk_block(block: pa.Table, root: Store) -> pa.Table:
    folders = [raw.decode("utf-8", "surrogateescape") for raw in block["folder"].to_pylist()]
    return pa.concat_tables([WALKED.empty_table(), *(walk(root, name) for name in folders)])


def _confirm(going: pa.Table, root: Store, trash: Store | None, settings: PruneSettings) -> None:
    if settings.yes:
        return
    what = (
        f"move {going.num_rows:,} files of {root.root} to {trash.root}"
        if trash
        else (f"remove {going.num_rows:,} files of {root.root} for good")
    )
    if not sys.stdin.isatty():
        raise UserError(f"--apply would {what}: give --yes where nobody can be asked")
    answer = input(f"This will {what}. Type their number to go on: ")
    if answer.strip().replace(",", "") != str(going.num_rows):
        raise UserError(f"{answer.strip()!r} is not {going.num_rows}: nothing was removed")


def _numbered(going: pa.Table) -> pa.Table:
    """The rows under ids that sort as they stand: neighbours in a folder go together."""
    ids = pa.array([f"{at:010}" for at in range(going.num_rows)], pa.string())
    return going.select(WALKED.names).add_column(0, "id", ids)


def _apply(
    run: record.Run, root: Store, trash: Store | None, settings: PruneSettings, own: Sequence[str]
) -> None:
    going = manifest.read_table(run.store, _AT_WORK)
    table = map_rows(
        going,
        RemoveRows(root, trash),
        _REMOVED,
        run=run,
        batch_size=_BATCH,
        unit="files",
        wait_s=settings.wait_s,
    ).table()
    failed = table.filter(pc.not_equal(table["status"], manifest.STATUS_OK))
    emptied = remove_empty_folders(root, own) if isinstance(root, LocalStore) else 0
    _write_removed(run.store, table)
    gone = table.num_rows - failed.num_rows
    counts = run.counts | {"removed": gone, "failed": failed.num_rows, "folders": emptied}
    misses = failed.slice(0, _SHOWN).to_pylist()
    run.finish(
        counts,
        run.results
        | {
            "applied": True,
            "trash": trash.root if trash else None,
            "misses": [f"{row['path']}: {row['error']}" for row in misses],
        },
        made=(DECISIONS_FILE, REMOVED_FILE),
    )
    run.store.delete([_AT_WORK])
    drop_parts(run.store)


def _write_removed(store: Store, table: pa.Table) -> None:
    """What was removed, behind what earlier applications of the same lists removed."""
    tables = [table.drop_columns(["id"])]
    if store.stat(REMOVED_FILE):
        tables.insert(0, manifest.read_table(store, REMOVED_FILE))
    whole = manifest.together(tables, store.uri(REMOVED_FILE))
    manifest.write_table(store, REMOVED_FILE, whole)
