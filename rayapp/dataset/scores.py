"""Scores: one Parquet row an image × perturbation, with the logit under a detector's hash.

Probability is derived on reading, by the calibration that the reader names: a new calibration
scores nothing twice.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.labels import Item, LabelScheme, item_id
from rayapp.storage.parquet_files import open_parquet
from rayapp.storage.store import Stat, Store
from rayapp.storage.uris import open_store

SCORES_FILE = "scores.parquet"
SCORES_FOLDER = "scores"  # of a large set: a folder of tables
_MANIFEST = "manifest.parquet"  # of a set that download, perturb or a user made
_ROOT_KEY = b"images_root"
_PERTURBATION_KEY = b"perturbation"
_BATCH_ROWS = 65_536
# Of a followed folder: ISO 8601 with microseconds, UTC; after a clock was set back, what still
# comes after the last one: `2026-11-30T00:00:00.000000Z+000001 2026-11-29T08:00:00.000000Z`.
SCORED_AT = pa.field("scored_at", pa.string())
_OLD_KEY = b"protocol"  # of it, in scores of before

EXTRA = {
    "logit": pa.float32(),
    "logits": pa.list_(pa.float32()),  # of a detector with one output a class; then no `logit`
    "delivered_logits": pa.list_(pa.float32()),  # of the picture as it is delivered elsewhere
    "part_logits": pa.list_(pa.float32()),  # of a fusion: log-odds of each of its detectors
    "map_logits": pa.list_(pa.list_(pa.float32())),  # of tiles or patches: rows, at most 48 × 48
    "detector_hash": pa.string(),
    "preprocessing_hash": pa.string(),
    "orientation": pa.int8(),
    "note": pa.string(),
    "reason": pa.string(),  # why there is no verdict, though the logit stands
    "declared": pa.string(),  # what the file says of itself, see dataset/declared
    "declared_by": pa.string(),
    "declared_detail": pa.string(),
    "variant": pa.string(),
    "group": pa.string(),
    "etag": pa.string(),
}


def schema(scheme: LabelScheme | None = None) -> pa.Schema:
    """Columns of a score table; label columns where the images carry labels."""
    return manifest.schema(scheme, EXTRA)


def day_of(time: str) -> str:
    """The day on which a row was scored, by the clock of then."""
    return time.rpartition(" ")[2][:10]


def with_root(columns: pa.Schema, images_root: str, perturbation: str = "") -> pa.Schema:
    """The columns of a score table whose paths start from `images_root`.

    `perturbation` is the hash of the one under which the images were disturbed first.
    """
    known = {**(columns.metadata or {}), _ROOT_KEY: images_root.encode()}
    known |= {_PERTURBATION_KEY: perturbation.encode()} if perturbation else {}
    return columns.with_metadata(known)


def _tables_below(store: Store) -> list[Stat]:
    """Every score table below a store: single ones, and the parts of folders that are whole.

    Of an output that has both, the one table.
    """
    tables: dict[str, Stat] = {}
    parts: list[tuple[str, Stat]] = []
    whole: set[str] = set()
    for stat in store.list():  # of an output of images, most are neither
        folder, _, name = stat.key.rpartition("/")
        if name == SCORES_FILE:
            tables[folder] = stat
        elif folder.rpartition("/")[2] in ("", SCORES_FOLDER):
            if name == manifest.FOLDER_MANIFEST:
                whole.add(folder)
            elif name.endswith(".parquet"):
                parts.append((folder, stat))
    found = [*tables.values()]
    for folder, stat in parts:
        if folder in whole and not (folder and folder.rpartition("/")[0] in tables):
            found.append(stat)
    return sorted(found, key=lambda one: one.key)


def outputs_below(uri: str) -> list[str]:
    """The folders below one, itself among them, that hold score tables as predict writes them."""
    store, found = open_store(uri), dict[str, None]()
    for stat in _tables_below(store):
        folder, _, name = stat.key.rpartition("/")
        if name != SCORES_FILE:  # a part
            folder = folder.removesuffix(SCORES_FOLDER).rstrip("/")
        found[store.uri(folder) if folder else uri] = None
    return list(found)


def _check(columns: pa.Schema, uri: str) -> None:
    missing = {"id", "logit", "detector_hash"} - set(columns.names)
    if missing:
        raise UserError(f"{uri}: no score table, {min(missing)} is missing")


def read_scores(store: Store, detector_hash: str | None = None) -> pa.Table:
    """Read a score table, or all of a folder of them, in id order.

    Raises:
        UserError: there is none, or it was made by another detector than `detector_hash`.
    """
    table = manifest.read_table(store, SCORES_FILE)
    _check(table.schema, store.uri(SCORES_FILE))
    found = {h for h in table["detector_hash"].to_pylist() if h}
    if detector_hash is not None and found - {detector_hash}:
        raise UserError(
            f"{store.uri(SCORES_FILE)}: scored by detector {min(found)[:12]}, "
            f"not by {detector_hash[:12]}; run predict again"
        )
    return table


def require_scores(uris: Iterable[str]) -> None:
    """Nothing where each folder holds a score table, at its top or further down; else UserError."""
    for uri in uris:
        if not _tables_below(open_store(uri)):
            raise UserError(f"{uri}: no {SCORES_FILE} there; run predict")


def read_matching(
    uris: Iterable[str],
    detector_hash: str,
    root: str | None = None,
    paths: Collection[str] | None = None,
    more: Sequence[str] = (),
) -> pa.Table:
    """Every score of one detector below some folders, a row a path; a row with a score wins.

    Tables are read some thousand rows at a time and only what is wanted is kept: of a set of any
    size, the memory is that of the rows that come back.

    Args:
        uris: outputs of predict, or folders that hold several of them.
        detector_hash: scores by other detectors are passed over.
        root: where given, only images under this root count.
        paths: where given, only these images count.
        more: columns that come along beside a score's own, of tables that have them.

    Raises:
        UserError: a table that can't be read.
    """
    uris = list(uris)
    wanted = None if paths is None else pa.array(sorted(set(paths)), pa.string())
    tables = [_with_root(pa.Table.from_batches([], schema()), "")]
    for uri in uris:
        store = open_store(uri)
        for stat in _tables_below(store):
            tables += _matching(store, stat, detector_hash, root, wanted, more)
    try:
        found = pa.concat_tables(tables, promote_options="default")
    except pa.ArrowException as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{', '.join(uris)}: score tables that do not fit together, of another version: {why}; "
            "remove those of the other version and run predict again"
        ) from None
    return _one_a_path(found)


def _matching(
    store: Store,
    file: Stat,
    detector_hash: str,
    root: str | None,
    paths: pa.Array | None,
    more: Sequence[str] = (),
) -> Iterator[pa.Table]:
    """The rows of one table that are wanted."""
    with open_parquet(store, file) as opened:
        columns = opened.schema_arrow
        _check(columns, store.uri(file.key))
        # Scores of disturbed images are no scores of the images.
        metadata = columns.metadata or {}
        own = images_root(columns)
        if {_PERTURBATION_KEY, _OLD_KEY} & metadata.keys() or root not in (None, own):
            return
        names = [name for name in (*schema().names, *more) if name in columns.names]
        for batch in opened.iter_batches(_BATCH_ROWS, columns=names):
            mine = pc.equal(batch["detector_hash"], detector_hash)
            if paths is not None:
                mine = pc.and_kleene(mine, pc.is_in(batch["path"], value_set=paths))
            found = pa.Table.from_batches([batch]).filter(mine)
            if found.num_rows:
                yield _with_root(found, own)


def _with_root(table: pa.Table, root: str) -> pa.Table:
    """With the root of each row's path, without metadata."""
    roots = pa.array([root] * table.num_rows, pa.string())
    return table.append_column("root", roots).replace_schema_metadata(None)


def _one_a_path(table: pa.Table) -> pa.Table:
    """The first row of each path, of those that were scored where there is one."""
    order = pc.sort_indices(
        pa.table({"path": table["path"], "failed": _failed(table)}),
        sort_keys=[("path", "ascending"), ("failed", "ascending")],
    )
    table = table.take(order)
    paths = table["path"].to_pylist()
    kept = [at == 0 or paths[at - 1] != path for at, path in enumerate(paths)]
    return table.filter(pa.array(kept, pa.bool_()))


def _failed(table: pa.Table) -> pa.ChunkedArray:
    """Whether each row lacks a score."""
    if "logits" not in table.column_names:
        return pc.is_null(table["logit"])
    return pc.and_(pc.is_null(table["logit"]), pc.is_null(table["logits"]))


def images_root(columns: pa.Schema) -> str:
    """Where the paths of a score table start."""
    return str((columns.metadata or {}).get(_ROOT_KEY, b"").decode())


def select(table: pa.Table, items: Sequence[Item], scheme: LabelScheme, list_uri: str) -> pa.Table:
    """The rows of a list's images, in the list's order, with the list's labels.

    Raises:
        UserError: an image of the list has no row, or could not be scored; `list_uri` is the list.
    """
    at = {path: row for row, path in enumerate(table["path"].to_pylist())}
    wanted = [item_id(item.path) for item in items]
    missing = [path for path in wanted if path not in at]
    if missing:
        raise UserError(
            f"{list_uri}: {len(missing)} of {len(wanted)} images have no score; first: {missing[0]}"
        )
    chosen = table.take([at[path] for path in wanted])
    failed = chosen.filter(_failed(chosen))
    if failed.num_rows:
        raise UserError(
            f"{list_uri}: {failed.num_rows} images could not be scored; "
            f"first: {failed['path'][0]}: {failed['error'][0]}"
        )
    for column, codes in zip(
        scheme.columns, zip(*(item.labels for item in items), strict=True), strict=False
    ):
        labels = pa.array(codes, pa.int16())
        if column in chosen.column_names:
            chosen = chosen.set_column(chosen.schema.get_field_index(column), column, labels)
        else:
            chosen = chosen.append_column(column, labels)
    return chosen


def photographs(rows: pa.Table) -> list[str]:
    """What is behind each row: its group, else its path; rows that share it are not independent."""
    paths: list[str] = rows["path"].to_pylist()
    if "group" not in rows.column_names:
        return paths
    return [group or path for group, path in zip(rows["group"].to_pylist(), paths, strict=True)]


def names_by(
    rows: pa.Table, column: str, scheme: LabelScheme, root: str | None = None
) -> list[str]:
    """What a column says of each row: of the scheme by name, of the scores, or of the manifest.

    Args:
        rows: of a score table with the list's labels.
        column: its name.
        scheme: of the labels.
        root: where the images lie; `manifest.parquet` there may know the column.

    Raises:
        UserError: none of them has the column, or it is empty.
    """
    tables = [rows]
    store = open_store(root) if root else None
    empty = column not in rows.column_names or rows[column].null_count == rows.num_rows
    if empty and store and manifest.is_there(store, _MANIFEST):
        tables.append(manifest.read_table(store, _MANIFEST))
    known = tables[-1]
    if column not in known.column_names or known[column].null_count == known.num_rows:
        there = [c for one in tables for c in one.column_names if one[c].null_count < one.num_rows]
        raise UserError(
            f"no column {column} of the images (known: {', '.join(dict.fromkeys(there))})"
        )
    values = known[column].to_pylist()
    if known is not rows:
        at = dict(zip(known["path"].to_pylist(), values, strict=True))
        values = [at.get(path) for path in rows["path"].to_pylist()]
    names = scheme.names(column) if column in scheme.columns else {}
    return ["unknown" if value is None else str(names.get(value, value)) for value in values]
