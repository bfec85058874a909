"""Scores: one Parquet row an image × perturbation, with the logit under a detector's hash.

Probability is derived on reading, by the calibration that the reader names: a new calibration
scores nothing twice.
"""

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.labels import Item, LabelScheme, item_id
from rayapp.storage.store import Store
from rayapp.storage.uris import open_store

SCORES_FILE = "scores.parquet"
SCORES_FOLDER = "scores"  # of a large set: a folder of tables
FOLDER_MANIFEST = "_manifest"  # in such a folder, once it is whole
_MANIFEST = "manifest.parquet"  # of a set that download, perturb or a user made
_ROOT_KEY = b"images_root"
_PERTURBATION_KEY = b"perturbation"
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


def with_root(columns: pa.Schema, images_root: str, perturbation: str = "") -> pa.Schema:
    """The columns of a score table whose paths start from `images_root`.

    `perturbation` is the hash of the one under which the images were disturbed first.
    """
    known = {**(columns.metadata or {}), _ROOT_KEY: images_root.encode()}
    known |= {_PERTURBATION_KEY: perturbation.encode()} if perturbation else {}
    return columns.with_metadata(known)


def _tables_below(store: Store) -> list[str]:
    """Every score table below a store: single ones, and the parts of folders that are whole.

    Of an output that has both, the one table.
    """
    keys = {stat.key for stat in store.list()}
    found = [key for key in keys if key.rpartition("/")[2] == SCORES_FILE]
    for key in keys:
        folder, slash, name = key.rpartition("/")
        above = folder.removesuffix(SCORES_FOLDER)
        if (
            name.endswith(".parquet")
            and name != SCORES_FILE
            and f"{folder}{slash}{FOLDER_MANIFEST}" in keys
            and not (above != folder and f"{above}{SCORES_FILE}" in keys)
        ):
            found.append(key)
    return sorted(found)


def _read(store: Store, key: str) -> pa.Table:
    table = manifest.read_table(store, key)
    missing = {"id", "logit", "detector_hash"} - set(table.column_names)
    if missing:
        raise UserError(f"{store.uri(key)}: no score table, {min(missing)} is missing")
    return table


def read_scores(store: Store, detector_hash: str | None = None) -> pa.Table:
    """Read a score table, or all of a folder of them.

    Raises:
        UserError: there is none, or it was made by another detector than `detector_hash`.
    """
    if store.stat(SCORES_FILE) is None and store.stat(f"{SCORES_FOLDER}/{FOLDER_MANIFEST}"):
        table = pa.concat_tables([_read(store, key) for key in _tables_below(store)]).sort_by("id")
    else:
        table = _read(store, SCORES_FILE)
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


def read_matching(uris: Iterable[str], detector_hash: str, root: str | None = None) -> pa.Table:
    """Every score of one detector below some folders, a row a path; a row with a score wins.

    Args:
        uris: outputs of predict, or folders that hold several of them.
        detector_hash: scores by other detectors are passed over.
        root: where given, only images under this root count.
    """
    tables = [_with_root(pa.Table.from_batches([], schema()))]
    for uri in uris:
        store = open_store(uri)
        for key in _tables_below(store):
            part = _read(store, key)
            # Scores of disturbed images are no scores of the images.
            metadata = part.schema.metadata or {}
            is_plain = not {_PERTURBATION_KEY, _OLD_KEY} & metadata.keys()
            if is_plain and root in (None, images_root(part)):
                mine = part.filter(pc.equal(part["detector_hash"], detector_hash))
                tables.append(_with_root(mine))
    return _one_a_path(pa.concat_tables(tables, promote_options="default"))


def _with_root(table: pa.Table) -> pa.Table:
    """Without label columns, which a list gives; with the root of each row's path."""
    kept = table.select([name for name in schema().names if name in table.column_names])
    roots = pa.array([images_root(table)] * table.num_rows, pa.string())
    return kept.append_column("root", roots).replace_schema_metadata(None)


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


def images_root(table: pa.Table) -> str:
    """Where the paths of a score table start."""
    return str((table.schema.metadata or {}).get(_ROOT_KEY, b"").decode())


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
    if empty and store and store.stat(_MANIFEST) is not None:
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
