"""Which images are wanted: annotation lists, read in pieces and cut up by source.

Lists may name millions of images, so they are never held whole: lines are spread over buckets by a
hash of the id, and each bucket is small enough to be checked for repeats by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.labels import Item, LabelScheme, item_id, parse_list
from rayapp.download.origins.catalogue import Source
from rayapp.storage.disk import scratch_folder
from rayapp.storage.store import Store
from rayapp.storage.uris import split_uri

STATE = ".download"
_PIECE_BYTES = 1 << 20
_BUCKET_BYTES = 512 << 10
_MOST_BUCKETS = 256  # files open at once


def items_of(uri: str, scheme: LabelScheme) -> Iterator[list[Item]]:
    """The items of a list, a piece of about a megabyte at a time.

    Raises:
        UserError: no such file, not UTF-8, or a defect, named by file and line.
    """
    store, key = split_uri(uri)
    found = store.stat(key)
    if found is None:
        raise UserError(f"{uri}: no such file")
    rest, line = b"", 0
    for start in range(0, found.size, _PIECE_BYTES):
        rest += store.get_range(key, start, _PIECE_BYTES)
        last = start + _PIECE_BYTES >= found.size
        cut = len(rest) if last else rest.rfind(b"\n") + 1
        try:
            text = rest[:cut].decode("utf-8-sig" if line == 0 else "utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{uri}: not UTF-8 text; save it as UTF-8") from None
        parsed = parse_list(text, scheme, uri)
        if parsed.defects:
            defect = parsed.defects[0]
            raise UserError(str(replace(defect, line=defect.line + line)))
        line += text.count("\n")
        rest = rest[cut:]
        yield parsed.items


def list_digest(uri: str) -> str:
    """`runs.digest` of a list's bytes, a piece at a time: a list may have millions of lines."""
    store, key = split_uri(uri)
    size = _size(uri)
    total = hashlib.sha256(size.to_bytes(8, "little"))
    for start in range(0, size, _PIECE_BYTES):
        total.update(store.get_range(key, start, _PIECE_BYTES))
    return total.hexdigest()


def cut_up(
    store: Store, lists: Sequence[str], scheme: LabelScheme, sources: Mapping[str, Source]
) -> int:
    """Write the wanted images of each source as Parquet buckets under the state folder.

    Returns:
        The number of annotated images that no chosen source provides.

    Raises:
        UserError: a list that is wrong, two lines that give one path other labels, or two paths
            that are one file where the target does not tell upper from lower case.
    """
    store.delete([stat.key for stat in list(store.list(f"{STATE}/wanted/"))])
    folds = _folds_case(store)
    sizes = [_size(uri) for uri in lists]
    num_buckets = min(max(1, -(-sum(sizes) // _BUCKET_BYTES)), _MOST_BUCKETS)
    outside = 0
    with scratch_folder() as folder:
        spills = [Path(folder, str(bucket)) for bucket in range(num_buckets)]
        _spill(lists, scheme, spills)
        for bucket, spill in enumerate(spills):
            rows = _distinct(spill, store if folds else None)
            for owner, table in _by_source(rows, scheme, sources):
                if owner is None:
                    outside += table.num_rows
                    continue
                manifest.write_table(store, f"{STATE}/wanted/{owner}/{bucket:05}.parquet", table)
    for name, source in sources.items():
        if source.files:
            fixed = [Item(path, path, ()) for path in sorted(source.files)]
            table = _table(fixed, [source.inside(item.path) or "" for item in fixed], scheme)
            manifest.write_table(store, f"{STATE}/wanted/{name}/files.parquet", table)
    return outside


def buckets(store: Store, source: str) -> Iterator[pa.Table]:
    """The wanted images of one source: columns id, path, inside, and the labels."""
    for stat in list(store.list(f"{STATE}/wanted/{source}/")):
        yield manifest.read_table(store, stat.key)


def _size(uri: str) -> int:
    store, key = split_uri(uri)
    found = store.stat(key)
    return found.size if found else 0


def _spill(lists: Sequence[str], scheme: LabelScheme, spills: Sequence[Path]) -> None:
    """Append each item to the file of its bucket, `labels<tab>path` a line."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(spill.open("w", encoding="utf-8")) for spill in spills]
        for uri in lists:
            names_any = False
            for items in items_of(uri, scheme):
                names_any = names_any or bool(items)
                for item in items:
                    key = item_id(item.path)
                    # Names that differ in case alone meet in one bucket.
                    file = files[zlib.crc32(key.casefold().encode()) % len(files)]
                    file.write(f"{','.join(map(str, item.labels))}\t{key}\n")
            if not names_any:
                raise UserError(f"{uri}: names no image")


def _folds_case(store: Store) -> bool:
    """Whether two names that differ in case alone are one file there."""
    store.put(f"{STATE}/Case", b"")
    folds = store.stat(f"{STATE}/case") is not None
    store.delete([f"{STATE}/Case"])
    return folds


def _distinct(spill: Path, folding: Store | None) -> list[Item]:
    """The items of a bucket, each once; on a target that folds case no two of one spelling."""
    seen: dict[str, Item] = {}
    spelled: dict[str, str] = {}
    with spill.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            codes, _, path = line.removesuffix("\n").partition("\t")
            labels = tuple(int(code) for code in codes.split(",") if code)
            item = seen.setdefault(path, Item(path, path, labels))
            if item.labels != labels:
                raise UserError(f"{path}: labels {item.labels} and {labels} in the lists")
            other = spelled.setdefault(path.casefold(), path) if folding else path
            if folding and other != path:
                raise UserError(
                    f"{other} and {path} are one file under {folding.root}, which does not "
                    "tell upper from lower case; give another --root"
                )
    return list(seen.values())


def _by_source(
    items: list[Item], scheme: LabelScheme, sources: Mapping[str, Source]
) -> Iterator[tuple[str | None, pa.Table]]:
    split: dict[str | None, tuple[list[Item], list[str]]] = {}
    for item in items:
        # The nearest prefix owns a path, whatever the order: `corvi` takes what no other has.
        name = max(sources, key=lambda each: sources[each].claim(item.path))
        inside = sources[name].inside(item.path)
        owner = None if inside is None else name
        kept, insides = split.setdefault(owner, ([], []))
        kept.append(item)
        insides.append(inside or "")
    for key, (kept, insides) in split.items():
        yield key, _table(kept, insides, scheme)


def _table(items: list[Item], insides: list[str], scheme: LabelScheme) -> pa.Table:
    table = manifest.item_rows(items, scheme)
    return table.append_column("inside", pa.array(insides, pa.string()))


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """A wanted table as rows."""
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
