"""What is to be scored: files, folders, patterns, lists and tables, and images inside of files."""

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from rayapp.config.errors import NoInput, UserError
from rayapp.config.packaged import shipped_names
from rayapp.dataset import manifest, members
from rayapp.dataset.clutter import clutter_kind
from rayapp.dataset.inputs import path_lists
from rayapp.dataset.inputs.found_files import is_folder, is_pattern, single_file, walk
from rayapp.dataset.labels import LabelScheme, item_id, load_scheme, read_list
from rayapp.storage.parquet_files import open_parquet
from rayapp.storage.store import LocalStore, Stat, Store
from rayapp.storage.uris import open_store, split_uri

_CARRIED = ("variant", "group", "source", "licence")
_CONTAINERS = (".tar", ".parquet")
_NO_LISTS = (".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml", ".xlsx")


@dataclass(frozen=True)
class Inputs:
    """The images under `root`: a table of id, path and, where known, labels and their scheme.

    Where the images were listed, `etag` tells one state of a file from the next. What was seen
    and is no image is counted in `left_out`, by its kind.
    """

    root: Store
    table: pa.Table
    scheme: LabelScheme | None = None
    left_out: Counter[str] = field(default_factory=Counter)

    def read(self, path: str) -> bytes:
        """The bytes of one image; see `members.read_image`."""
        at = pc.index(self.table["path"], path).as_py()
        return members.read_image(self.root, self.table.slice(at, 1).to_pylist()[0])

    def address(self, path: str) -> str:
        """The file: address of an image that lies in a local file of its own; else ''."""
        is_key = isinstance(self.root, LocalStore) and "://" not in path  # no address on the web
        is_file = is_key and self.root.stat(path) is not None
        return Path(self.root.root, path).absolute().as_uri() if is_file else ""


class TooMany(Exception):
    """A folder or pattern has more files than are listed in memory."""


def resolve(
    uri: str,
    *,
    root: str | None = None,
    scheme: str = "imaginet",
    column: str | None = None,
    most: int | None = None,
) -> Inputs:
    """Find the images that an input names.

    Args:
        uri: an image; a folder or prefix (every file below it); a pattern such as `a/**/*.jpg`;
            a list (`.txt`), with labels or of paths alone; a table of paths (`.csv`, `.tsv`,
            `.parquet`), a manifest, or a file with images in it (`.parquet`, `.tar`).
        root: where the paths of a list or table start; its own folder, where not given.
        scheme: label scheme of an annotation list.
        column: of a table, with the paths or images; found by its name, where not given.
        most: files of a folder or pattern; None: all.

    Raises:
        UserError: nothing there, or nothing that can be read; the line says what can.
        TooMany: more files than `most`.
    """
    suffix = os.path.splitext(uri)[1].lower()
    is_listing = is_folder(uri) or is_pattern(uri)
    if column and (is_listing or suffix not in (".csv", ".tsv", ".parquet")):
        raise UserError("--column: goes with a table of paths or images, .csv or .parquet")
    if is_listing:
        return _listed(uri, column, most)
    if suffix in _NO_LISTS:
        raise UserError(f"{uri}: is no list that is read; save the paths one a line, as .txt")
    if suffix != ".tar" and (advice := members.advice(uri)):
        raise UserError(f"{uri}: is not read as it is; {advice}")
    if suffix == ".txt":
        return _from_text(uri, root, load_scheme(scheme))
    if suffix in (".csv", ".tsv"):
        return _from_paths(uri, path_lists.paths_of_csv(uri, column), root)
    if suffix == ".parquet":
        return _from_parquet(uri, root, scheme, column)
    return _listed(uri, column, most)


def _listed(uri: str, column: str | None, most: int | None) -> Inputs:
    """The images below a folder, of a pattern, or in one file."""
    left_out: Counter[str] = Counter()
    if not is_pattern(uri) and (one := single_file(uri)) is not None:
        store, images = one
    else:
        store, listed = walk(uri)
        found = list(itertools.islice(listed, None if most is None else most + 1))
        if most is not None and len(found) > most:
            raise TooMany
        if not found:
            raise NoInput(f"{uri}: no such file or folder, or nothing in it")
        kinds = {stat.key: clutter_kind(stat.key) for stat in found}
        images = sorted((s for s in found if not kinds[s.key]), key=lambda stat: stat.key)
        left_out.update(kind for kind in kinds.values() if kind)
    holders = [stat for stat in images if stat.key.lower().endswith(_CONTAINERS)]
    if holders and len(holders) == len(images):
        return _inside(uri, store, holders, column, left_out)
    # A table beside images says something of them.
    left_out.update(".parquet" for stat in holders if stat.key.lower().endswith(".parquet"))
    images = [stat for stat in images if not stat.key.lower().endswith(".parquet")]
    return _some(uri, Inputs(store, paths_table(images), left_out=left_out))


def paths_table(images: Sequence[Stat]) -> pa.Table:
    """Rows of files that were listed."""
    # A name that is not UTF-8 is told by its bytes, and missed: tables hold text.
    names = [stat.key.encode("utf-8", "backslashreplace").decode() for stat in images]
    keys = pa.array(names, pa.string())
    etags = pa.array([stat.etag for stat in images], pa.string())
    return pa.table({"id": keys, "path": keys, "etag": etags})


def _inside(
    uri: str, store: Store, holders: Sequence[Stat], column: str | None, left_out: Counter[str]
) -> Inputs:
    """The images in tars and Parquet files."""
    tables = []
    for table, kinds in members.images_in(store, holders, column):
        tables.append(table)
        left_out.update(kinds)
    return _some(uri, Inputs(store, pa.concat_tables(tables), left_out=left_out))


def _some(uri: str, inputs: Inputs) -> Inputs:
    """The inputs themselves, if there are any."""
    if inputs.table.num_rows == 0:
        others = ", ".join(f"{count:,} {kind}" for kind, count in inputs.left_out.most_common(5))
        raise NoInput(f"{uri}: holds no image" + (f" (left out: {others})" if others else ""))
    return inputs


def _from_text(uri: str, root: str | None, scheme: LabelScheme) -> Inputs:
    """An annotation list, or a list of paths alone."""
    text = path_lists.read_text(uri)
    if not path_lists.is_annotated(text, scheme):
        return _from_paths(uri, path_lists.paths_of_text(text), root)
    if root is None:
        raise UserError(f"{uri}: a list needs --root, the folder that its paths start from")
    items = read_list(uri, scheme).items
    table = manifest.item_rows(items, scheme)
    paths = pa.array([item_id(item.path) for item in items], pa.string())
    return Inputs(open_store(root), table.set_column(1, "path", paths), scheme)


def _from_paths(uri: str, given: Iterable[str], root: str | None) -> Inputs:
    """Rows of a list of paths; the k-th repeat of one has the id `path#k`."""
    paths, kinds = path_lists.without_clutter(given)
    if not paths:
        return _some(uri, Inputs(open_store("."), pa.table({"id": []}), left_out=Counter(kinds)))
    store, keys = path_lists.placed(uri, paths, root)
    seen: Counter[str] = Counter()
    ids = []
    for key in keys:
        ids.append(f"{key}#{seen[key]}" if seen[key] else key)
        seen[key] += 1
    table = pa.table({"id": pa.array(ids, pa.string()), "path": pa.array(keys, pa.string())})
    return Inputs(store, table, left_out=Counter(kinds))


def _from_parquet(uri: str, root: str | None, own: str, column: str | None) -> Inputs:
    """Images in a table, a manifest, or a table of paths."""
    store, key = split_uri(uri)
    stat = store.stat(key)
    if stat is None:
        raise UserError(f"{uri}: no such file")
    columns = open_parquet(store, stat).schema_arrow
    if members.image_column(columns, column):
        return _inside(uri, store, [stat], column, Counter())
    table = manifest.read_table(store, key)
    if column is None and {"id", "path"} <= set(table.column_names):
        name = manifest.scheme_name(table)
        scheme = _scheme_of(uri, name, own) if name else None
        return _from_manifest(table, scheme, open_store(root) if root else store)
    return _from_paths(uri, path_lists.paths_of_table(uri, table, column), root)


def _scheme_of(uri: str, name: str, own: str) -> LabelScheme:
    """The scheme that a manifest's labels are under: the package's of that name, or one's own."""
    if name in shipped_names("annotations"):
        return load_scheme(name)
    given = load_scheme(own)
    if given.name != name:
        raise UserError(
            f"{uri}: its labels are under a scheme {name!r}, which the package does "
            "not have; give its file with --scheme"
        )
    return given


def _from_manifest(table: pa.Table, scheme: LabelScheme | None, store: Store) -> Inputs:
    labels = list(scheme.columns) if scheme else []
    if "status" in table.column_names:  # what was not made can't be scored
        table = table.filter(pc.equal(table["status"], manifest.STATUS_OK))
    kept = [c for c in ("id", "path", *labels, *_CARRIED) if c in table.column_names]
    return Inputs(store, table.select(kept), scheme)


def with_variants(inputs: Inputs, names: Sequence[str]) -> Inputs:
    """A row an image and variant of a perturbation; with several, the id is `id@variant`."""
    images = inputs.table
    if len(names) == 1:
        variant = pa.array([names[0]] * images.num_rows, pa.string())
        return replace(inputs, table=_set(images, "variant", variant))
    tables = []
    for name in names:
        ids = pa.array([f"{one}@{name}" for one in images["id"].to_pylist()], pa.string())
        variant = pa.array([name] * images.num_rows, pa.string())
        tables.append(_set(_set(images, "id", ids), "variant", variant))
    # By path, so that an image is decoded once for all of its variants.
    table = pa.concat_tables(tables).sort_by([("path", "ascending"), ("id", "ascending")])
    return replace(inputs, table=table)


def without_repeats(table: pa.Table) -> pa.Table:
    """The first row of each path and variant: what is to be scored."""
    first: dict[tuple[str, str | None], int] = {}
    for at, key in enumerate(_keys(table)):
        first.setdefault(key, at)
    return table if len(first) == table.num_rows else table.take(list(first.values()))


def with_repeats(scored: pa.Table, asked: pa.Table) -> pa.Table:
    """A row for each that was asked for, in id order, with what its path's row was given."""
    at = {key: row for row, key in enumerate(_keys(scored))}
    rows = scored.take([at[key] for key in _keys(asked)])
    again = pc.not_equal(rows["id"], asked["id"])
    rows = _set(rows, "ms", pc.if_else(again, pa.scalar(0.0, pa.float32()), rows["ms"]))
    for name in set(asked.column_names) & set(rows.column_names):  # its own id and labels
        rows = _set(rows, name, asked[name])
    return rows.sort_by("id")


def _keys(table: pa.Table) -> Iterator[tuple[str, str | None]]:
    nobody = itertools.repeat(None, table.num_rows)
    variants = table["variant"].to_pylist() if "variant" in table.column_names else nobody
    return zip(table["path"].to_pylist(), variants, strict=True)


def _set(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name in table.column_names:
        return table.set_column(table.schema.get_field_index(name), name, values)
    return table.append_column(name, values)
