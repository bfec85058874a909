"""What is to be scored: a folder, a pattern, an annotation list, a manifest, or one file."""

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.labels import LabelScheme, item_id, load_scheme, read_list
from rayapp.storage.store import LocalStore, Stat, Store
from rayapp.storage.uris import absolute_uri, open_store, split_uri

_PATTERN = re.compile(r"[*?\[]")
_CARRIED = ("variant", "group", "source", "licence")


@dataclass(frozen=True)
class Inputs:
    """The images under `root`: a table of id, path and, where known, labels and their scheme.

    Where the images were listed, `etag` tells one state of a file from the next.
    """

    root: Store
    table: pa.Table
    scheme: LabelScheme | None


def resolve(uri: str, *, root: str | None, scheme: str) -> Inputs:
    """Find the images that an input names.

    Args:
        uri: a folder or prefix (every file below it), a pattern such as `a/**/*.jpg`, an
            annotation list (`.txt`), a manifest (`.parquet`), or one image file.
        root: where the paths of a list or manifest start; for a manifest its own folder, where
            not given.
        scheme: label scheme of an annotation list.

    Raises:
        UserError: nothing there, or a list without a root.
    """
    if uri.endswith(".txt"):
        return _from_list(uri, root, load_scheme(scheme))
    if uri.endswith(".parquet"):
        return _from_manifest(uri, root)
    if _PATTERN.search(uri):
        store, found = _matching(uri)
    elif (one := _single_file(uri)) is not None:
        store, found = one
    else:
        store = open_store(uri)
        found = list(_every(store))
    if not found:
        raise UserError(f"{uri}: no such file or folder, or nothing in it")
    found.sort(key=lambda stat: stat.key)
    # A name that is not UTF-8 is told by its bytes, and missed: tables hold text.
    names = [stat.key.encode("utf-8", "backslashreplace").decode() for stat in found]
    keys = pa.array(names, pa.string())
    etags = pa.array([stat.etag for stat in found], pa.string())
    return Inputs(store, pa.table({"id": keys, "path": keys, "etag": etags}), None)


def with_variants(inputs: Inputs, names: Sequence[str]) -> Inputs:
    """A row an image and variant of a protocol; with several, the id is `id@variant`."""
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


def _set(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name in table.column_names:
        return table.set_column(table.schema.get_field_index(name), name, values)
    return table.append_column(name, values)


def _every(store: Store) -> Iterator[Stat]:
    """All files; a link that leads nowhere stands for an image that is missed."""
    return store.list_with_dead_links() if isinstance(store, LocalStore) else store.list()


def _single_file(uri: str) -> tuple[Store, list[Stat]] | None:
    if uri.endswith("/") or (uri.startswith("s3://") and uri.count("/") < 3):
        return None
    store, key = split_uri(uri)
    stat = store.stat(key)
    is_file = stat is not None and next(open_store(uri).list(), None) is None
    return (store, [stat]) if stat and is_file else None


def _matching(uri: str) -> tuple[Store, list[Stat]]:
    """Files that match a pattern; `*` stays within a folder, `**` does not."""
    whole = absolute_uri(uri)
    fixed = whole[: _PATTERN.search(whole).start()].rpartition("/")[0]  # type: ignore[union-attr]
    store = open_store(fixed or "/")
    wanted = re.compile(_expression(whole[len(fixed) + 1 :]))
    return store, [stat for stat in _every(store) if wanted.fullmatch(stat.key)]


def _expression(pattern: str) -> str:
    return "".join(_pieces(pattern))


def _pieces(pattern: str) -> Iterator[str]:
    for part in re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]*\])", pattern):
        if part == "**/":
            yield r"(?:.*/)?"
        elif part == "**":
            yield ".*"
        elif part == "*":
            yield "[^/]*"
        elif part == "?":
            yield "[^/]"
        elif part.startswith("[") and len(part) > 2:
            yield fnmatch.translate(part).removeprefix("(?s:").removesuffix(r")\Z")
        else:
            yield re.escape(part)


def _from_list(uri: str, root: str | None, scheme: LabelScheme) -> Inputs:
    if root is None:
        raise UserError(f"{uri}: a list needs --root, the folder that its paths start from")
    items = read_list(uri, scheme).items
    table = manifest.item_rows(items, scheme)
    paths = pa.array([item_id(item.path) for item in items], pa.string())
    return Inputs(open_store(root), table.set_column(1, "path", paths), scheme)


def _from_manifest(uri: str, root: str | None) -> Inputs:
    table = manifest.read_table_uri(uri)
    if not {"id", "path"} <= set(table.column_names):
        raise UserError(f"{uri}: no manifest, it has no columns id and path")
    name = manifest.scheme_name(table)
    scheme = load_scheme(name) if name else None
    labels = list(scheme.columns) if scheme else []
    if "status" in table.column_names:  # what was not made can't be scored
        table = table.filter(pc.equal(table["status"], manifest.STATUS_OK))
    kept = [c for c in ("id", "path", *labels, *_CARRIED) if c in table.column_names]
    store = open_store(root) if root else split_uri(uri)[0]
    return Inputs(store, table.select(kept), scheme)
