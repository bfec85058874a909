"""Sets that lie in shards: tables of images, of paths or of addresses, and tars."""

import itertools
import re
import tarfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from rayapp.config.errors import UserError
from rayapp.dataset import manifest, members, shard_rows
from rayapp.dataset.clutter import clutter_kind
from rayapp.dataset.inputs import path_lists
from rayapp.dataset.inputs.found_files import is_folder, is_pattern, matching, single_file
from rayapp.dataset.shards import Shard, ShardSet
from rayapp.storage.hub_datasets import HUB_DATASETS, open_dataset
from rayapp.storage.parquet_files import open_parquet
from rayapp.storage.store import Stat, Store
from rayapp.storage.uris import open_store, split_uri

_READERS = 16
_SAMPLED_MEMBERS = 1000
_URLS = ("url", "image_url", "img_url", "urls", "uri_url", "download_url", "link")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_PARQUET = ".parquet"
_HOLDERS = (".tar", _PARQUET)
_OURS = frozenset(
    {*shard_rows.COLUMNS, *manifest.COLUMNS, "logit", "logits", "detector_hash", "variant",
     "preprocessing_hash", "orientation", "note", "reason", "ms", "peak_mb"}
)  # fmt: skip


def find_shards(uri: str, root: str | None, column: str | None, least: int) -> ShardSet | None:
    """The set's shards, where it is made of tables or tars; None where it is listed instead.

    Args:
        uri: as of `inputs.resolve`; also `hf://datasets/…`, tables of addresses, and several
            tables of paths.
        root: where paths in tables start; their own folder if none.
        column: with the images, paths or addresses; found by its name if none.
        least: a set of fewer rows is listed, where it can be.

    Raises:
        UserError: nothing there, or tables that can't be read.
    """
    found = _holders(uri)
    if found is None:
        return None
    store, holders = found
    tars = [stat for stat in holders if stat.key.lower().endswith(".tar")]
    tables = [stat for stat in holders if not stat.key.lower().endswith(".tar")]
    with ThreadPoolExecutor(_READERS) as threads:
        seen = list(threads.map(lambda stat: _Table.of(store, stat), tables))
    if tables and len(seen) == 1 and "status" in seen[0].schema.names:
        return None  # a manifest: rows of it that were not made are passed over
    kinds = {_kind(uri, store, one, column) for one in seen}
    forms = {kind for kind, _ in kinds} | ({"tar"} if tars else set())
    if len(forms) > 1 and forms != {"images", "tar"}:
        raise UserError(f"{uri}: holds tables of several kinds, or tars beside them; give one kind")
    only_here = uri.startswith(HUB_DATASETS) or any(kind == "urls" for kind, _ in kinds)
    only_here = only_here or (len(seen) > 1 and any(kind == "paths" for kind, _ in kinds))
    if not only_here and _about(store, tars, seen) < least:
        return None
    kept = _kept(seen, {column for _, column in kinds})
    if tars:
        sides = shard_rows.sides_of_tar(store, tars[0])
        kept = pa.schema([*kept, *(one for one in sides if one.name not in kept.names)])
    shards = [Shard("tar", stat) for stat in tars]
    shards += [one.shard(*_kind(uri, store, one, column), kept) for one in seen]
    by_path = any(kind == "paths" for kind, _ in kinds)
    return ShardSet(_root(store, shards, root) if by_path else store, store, shards, kept)


@dataclass(frozen=True)
class _Table:
    """A Parquet file, of which only the end was read."""

    stat: Stat
    schema: pa.Schema
    groups: Sequence[tuple[int, dict[str, int]]]  # rows, and bytes of each column

    @classmethod
    def of(cls, store: Store, stat: Stat) -> "_Table":
        file = open_parquet(store, stat)
        groups = []
        for at in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(at)
            sizes: Counter[str] = Counter()
            for number in range(group.num_columns):
                one = group.column(number)
                sizes[one.path_in_schema.partition(".")[0]] += one.total_uncompressed_size
            groups.append((group.num_rows, dict(sizes)))
        return cls(stat, file.schema_arrow, groups)

    def shard(self, kind: str, column: str, kept: pa.Schema) -> Shard:
        listed = ("id", "etag") if kind == "paths" else ()
        names = dict.fromkeys((column, *listed, *kept.names))
        read = tuple(name for name in names if name in self.schema.names)
        groups = tuple(
            (rows, sum(sizes.get(name, 0) for name in read)) for rows, sizes in self.groups
        )
        return Shard(kind, self.stat, column, read, groups)  # type: ignore[arg-type]


def _holders(uri: str) -> tuple[Store, list[Stat]] | None:
    """The tables or tars that an input names, where it names nothing else."""
    store: Store
    if uri.startswith(HUB_DATASETS):
        store, folder = open_dataset(uri)
        found = list(store.list(folder))
    elif is_pattern(uri) or _BRACES.search(uri):
        store, found = _expanded(uri)
    elif (one := single_file(uri)) is not None:
        if not uri.lower().endswith(_HOLDERS):
            return None
        store, found = one
    elif is_folder(uri) or "://" in uri:
        store = open_store(uri)
        # Of a folder of images the first file tells.
        listed = (stat for stat in store.list() if clutter_kind(stat.key) is None)
        first = next(listed, None)
        if first is None or not first.key.lower().endswith(_HOLDERS):
            return None
        found = [first, *listed]
    else:
        return None
    found = [stat for stat in found if clutter_kind(stat.key) is None]
    if not found and uri.startswith(HUB_DATASETS):
        raise UserError(f"{uri}: holds no Parquet file and no tar, or no such configuration")
    if not _are_holders(found):
        return None
    return store, sorted(found, key=lambda stat: stat.key)


def _are_holders(found: Sequence[Stat]) -> bool:
    return bool(found) and all(stat.key.lower().endswith(_HOLDERS) for stat in found)


def _expanded(uri: str) -> tuple[Store, list[Stat]]:
    """Files of a pattern; `{00..12}` stands for each number, in so many digits."""
    if (braces := _BRACES.search(uri)) is None:
        store, listed = matching(uri)
        # Of a pattern of images the first files tell.
        found = list(itertools.islice(listed, 1))
        return store, found + (list(listed) if _are_holders(found) else [])
    first, last = braces.groups()
    names = [
        uri[: braces.start()] + f"{number:0{len(first)}d}" + uri[braces.end() :]
        for number in range(int(first), int(last) + 1)
    ]
    found = []
    for name in names:
        if _BRACES.search(name) or is_pattern(name):
            raise UserError(f"{uri}: one pair of braces, and no * or ? beside it")
        if (one := single_file(name)) is None:
            raise UserError(f"{name}: no such file")
        found.extend(one[1])
    return split_uri(names[0])[0], found


def _kind(uri: str, store: Store, table: _Table, column: str | None) -> tuple[str, str]:
    """What a table's rows hold, and in which column."""
    if found := members.image_column(table.schema, column):
        return "images", found
    names = [one.name for one in table.schema if _is_text(one.type)]
    if column is None and (urls := [name for name in names if name.lower() in _URLS]):
        return "urls", urls[0]
    at = path_lists.path_column(store.uri(table.stat.key), names, [], column)
    if column and (_first_value(store, table, column) or "").startswith(("http://", "https://")):
        return "urls", column
    return "paths", names[at]


def _first_value(store: Store, table: _Table, column: str) -> str | None:
    batches = open_parquet(store, table.stat).iter_batches(1, columns=[column])
    first = next(batches, None)
    return str(first[0][0].as_py() or "") if first is not None and first.num_rows else None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _kept(tables: Sequence[_Table], used: set[str]) -> pa.Schema:
    """Plain columns that all tables have alike, but those whose names are ours."""
    if not tables:
        return pa.schema([])
    kept = [
        one
        for one in tables[0].schema
        if one.name not in _OURS | used
        and not pa.types.is_nested(one.type)
        and not pa.types.is_binary(one.type)
        and not pa.types.is_large_binary(one.type)
        and not pa.types.is_dictionary(one.type)
    ]
    for table in tables[1:]:
        at = {one.name: one.type for one in table.schema}
        kept = [one for one in kept if at.get(one.name) == one.type]
    return pa.schema([pa.field(one.name, one.type) for one in kept])


def _about(store: Store, tars: Sequence[Stat], tables: Sequence[_Table]) -> int:
    """How many rows there are, of tars reckoned by the first members of the first."""
    rows = sum(count for one in tables for count, _ in one.groups)
    if tars:
        last, count, seen = 0, 0, 0
        walked = itertools.islice(members.walk_tar(store, tars[0]), _SAMPLED_MEMBERS)
        try:
            for member, path, _ in walked:
                last, count = member.offset_data + member.size, count + (path is not None)
                seen += 1
        except (OSError, tarfile.TarError):
            pass  # its rows will tell
        looked_at = last if seen == _SAMPLED_MEMBERS else tars[0].size
        rows += sum(stat.size for stat in tars) * count // max(looked_at, 1)
    return rows


def _root(store: Store, shards: Sequence[Shard], root: str | None) -> Store:
    """Where the paths of tables start, as the first one tells."""
    first = shards[0]
    table = _Table.of(store, first.file)
    path = _first_value(store, table, first.column) or ""
    if "://" in path:
        return open_store("/".join(path.split("/")[:3]))
    if path.startswith("/"):
        return open_store("/")
    return open_store(root) if root else store
