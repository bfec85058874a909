"""Annotate on Ray Data: every image read once for its hashes, then dealt to lists."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import yaml

from rayapp.annotate.folder_layout import (
    SYNTHETIC,
    Labelled,
    by_layout,
    from_table,
    labels_of,
    name_fault,
    parse_layout,
    scheme_of,
)
from rayapp.annotate.settings import AnnotateSettings
from rayapp.annotate.split import SPLITS, check, deal, joined, parse_shares
from rayapp.cluster.map_rows import map_rows
from rayapp.cluster.session import session
from rayapp.config.errors import UserError
from rayapp.dataset import manifest, near_duplicates
from rayapp.dataset.images import SUFFIXES, decode, perceptual_hash, sha256
from rayapp.dataset.labels import Item, LabelScheme, write_list
from rayapp.run import record, row_work
from rayapp.run.row_parts import drop_parts
from rayapp.storage.store import Store
from rayapp.storage.uris import absolute_uri, open_store, split_uri

SCHEME, MANIFEST = "scheme.yaml", "manifest.parquet"
_BATCH = 16
_SHOWN = 10
_FACTS = manifest.schema(extra={"perceptual_hash": pa.string()})


def annotate(settings: AnnotateSettings) -> record.Run:
    """Write the lists; counts and misses are in the run that is returned.

    Raises:
        UserError: no image, a layout that fits none, an unknown generator, a split left empty.
    """
    shares = parse_shares(settings.split)
    root, images, other = _found(settings)
    known = sorted({one.generator for one in images if one.origin == SYNTHETIC})
    _check_names(root, images, known)
    for name in settings.hold_out:
        if name not in known:
            raise UserError(f"--hold-out {name}: no such generator (known: {', '.join(known)})")
    labelled = [f"{o.path}\0{o.origin}\0{o.generator}\0{o.content}\0{o.group}" for o in images]
    inputs = {"images": record.digest(root.root.encode(), *(t.encode() for t in sorted(labelled)))}
    run = record.start(
        "annotate", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if run.state == "done" and not run.counts["failed"]:
        return run
    with session(settings):
        table = map_rows(
            pa.table({"id": pa.array([o.path for o in images]),
                      "path": pa.array([o.path for o in images])}),
            HashRows(root), _FACTS, run=run, batch_size=_BATCH, wait_s=settings.wait_s,
        ).table()  # fmt: skip
    _write(run, images, table, other, shares, settings)
    if not manifest.count_failed(table):
        drop_parts(run.store)
    return run


def _check_names(root: Store, images: Sequence[Labelled], generators: Sequence[str]) -> None:
    for one in images:
        if one.path.encode("utf-8", "ignore").decode() != one.path:
            told = one.path.encode("utf-8", "backslashreplace").decode()
            raise UserError(f"{root.root}/{told}: a file name that is not UTF-8; rename the file")
    lists: dict[str, str] = {}
    for name in generators:
        if (other := lists.setdefault(_list_name(name), name)) != name:
            raise UserError(f"generators {other!r} and {name!r} would share one test list; "
                            "rename one's folder")  # fmt: skip


def _list_name(generator: str) -> str:
    safe = re.sub(r"[^\w.-]+", "-", generator)
    return f"lists/test-{safe}.txt"


def _found(settings: AnnotateSettings) -> tuple[Store, list[Labelled], list[str]]:
    """Where paths start, the labelled images, and image files of no pattern."""
    if settings.input.endswith((".csv", ".parquet")):
        root = open_store(absolute_uri(settings.root)) if settings.root else (
            split_uri(settings.input)[0])  # fmt: skip
        return root, from_table(settings.input), []
    root = open_store(absolute_uri(settings.input))
    paths = [stat.key for stat in root.list() if stat.key.lower().endswith(SUFFIXES)]
    if not paths:
        raise UserError(f"{settings.input}: no such folder, or no image in it")
    images, other = by_layout(paths, parse_layout(settings.layout))
    for origin in ("real", SYNTHETIC):
        if not any(one.origin == origin for one in images):
            first = f"; the first image there is {paths[0]}"
            raise UserError(f"--layout {settings.layout}: finds no {origin} image{first}")
    return root, images, other


@dataclass
class HashRows:
    """Row work: an image decoded whole, and its hashes by bytes and by look."""

    root: Store

    def setup(self) -> None:
        """Nothing to load."""

    def batch(self, batch: Sequence[row_work.Row]) -> list[row_work.Row]:
        """The facts of each image."""
        return row_work.each(batch, self._one)

    def _one(self, row: row_work.Row) -> row_work.Row:
        fault = name_fault(row["path"])
        if fault:
            raise UserError(fault)
        try:
            data = self.root.get(row["path"])
        except (FileNotFoundError, IsADirectoryError):
            raise UserError("no such file") from None
        image = decode(data)
        return {
            "sha256": sha256(data), "bytes": len(data), "format": image.format,
            "width": image.width, "height": image.height,
            "perceptual_hash": perceptual_hash(image.pixels_HWC),
        }  # fmt: skip


def _write(
    run: record.Run, images: Sequence[Labelled], table: pa.Table, other: Sequence[str],
    shares: Any, settings: AnnotateSettings,
) -> None:  # fmt: skip
    """Scheme, lists and manifest, then run.json."""
    by_path = {one.path: one for one in images}
    every = table.to_pylist()
    sound = [row for row in every if row["status"] == manifest.STATUS_OK]
    listed = [by_path[row["path"]] for row in sound]
    scheme = scheme_of(listed, "own") if listed else None
    if scheme is None:
        raise UserError(f"none of {len(every)} images is readable; first: {every[0]['path']}: "
                        f"{every[0]['error']}")  # fmt: skip
    keys = _keys(sound, listed, settings.group_by)
    groups = joined(keys)
    split = deal(
        [one.path for one in listed], [_class(one) for one in listed], groups, shares,
        seed=settings.seed,
        test_only=frozenset(_class(one) for one in listed if one.generator in settings.hold_out),
    )  # fmt: skip
    check(split, [one.origin for one in listed], shares)
    items = [Item(one.path, one.path, labels_of(one, scheme)) for one in listed]
    run.store.put(SCHEME, _as_yaml(scheme))
    counts: dict[str, int] = {}
    lists: list[str] = []
    for name in SPLITS:
        part = [item for item, where in zip(items, split, strict=True) if where == name]
        if part:
            lists += _write_lists(run.store, name, part, scheme)
        counts[name] = len(part)
    extra = {"group": [sound[at]["path"] for at in groups], "split": list(split)}
    facts = {row["path"]: {k: extra[k][at] for k in extra} for at, row in enumerate(sound)}
    codes = {item.path: dict(zip(scheme.columns, item.labels, strict=True)) for item in items}
    _write_manifest(run.store, every, facts, codes, scheme)
    failed = [row for row in every if row["status"] != manifest.STATUS_OK]
    misses = [f"{row['path']}: {row['error']}" for row in failed]
    misses += [f"{path}: of no pattern of the layout" for path in other]
    table_rows = _table(listed, split)
    run.finish(
        {"in": len(every) + len(other), **counts, "failed": len(misses),
         "groups": len(set(groups))},
        {"lists": lists, "by_generator": table_rows, "misses": misses[:_SHOWN]},
    )  # fmt: skip


def _keys(
    sound: Sequence[row_work.Row], listed: Sequence[Labelled], group_by: Sequence[str]
) -> list[list[str]]:
    """What each image is held together by."""
    looks = None
    if "look" in group_by:
        looks = near_duplicates.clusters([row["perceptual_hash"] for row in sound])
    keys = []
    for at, (row, one) in enumerate(zip(sound, listed, strict=True)):
        found = [f"bytes {row['sha256']}"]
        found += [f"group {one.group}"] if one.group else []
        found += [f"look {looks[at]}"] if looks is not None else []
        found += [f"folder {one.path.rpartition('/')[0]}"] if "folder" in group_by else []
        keys.append(found)
    return keys


def _class(one: Labelled) -> str:
    return f"{one.generator}\0{one.content}"


def _as_yaml(scheme: LabelScheme) -> bytes:
    text = io.StringIO("# Written by jobs/annotate.py: --scheme takes this file.\n")
    text.seek(0, io.SEEK_END)
    yaml.safe_dump(scheme.model_dump(exclude_defaults=True), text, sort_keys=False,
                   allow_unicode=True)  # fmt: skip
    return text.getvalue().encode()


def _write_lists(store: Store, name: str, part: Sequence[Item], scheme: LabelScheme) -> list[str]:
    """A split's list; for test also one a generator, with all real images."""
    chosen = {f"lists/{name}.txt": list(part)}
    at = list(scheme.columns).index("generator")
    if name == "test":
        for code, maker in scheme.names("generator").items():
            own = [item for item in part if item.labels[at] == code and item.labels[0] == 1]
            if own:
                real = [item for item in part if item.labels[0] == 0]
                chosen[_list_name(maker)] = [*real, *own]
    for key, items in chosen.items():
        write_list(store, key, items, scheme)
    return list(chosen)


def _write_manifest(
    store: Store, every: Sequence[row_work.Row], facts: Any, codes: Any, scheme: LabelScheme
) -> None:
    # Without the scheme's name: it is found by its file, which only the lists' readers are given.
    extra = {"perceptual_hash": pa.string(), "group": pa.string(), "split": pa.string()}
    wanted = manifest.schema(scheme, extra).remove_metadata()
    made = [{**row, **facts.get(row["path"], {}), **codes.get(row["path"], {})} for row in every]
    manifest.write_table(store, MANIFEST, manifest.from_rows(made, wanted))


def _table(listed: Sequence[Labelled], split: Sequence[str]) -> list[dict[str, Any]]:
    """Images of each generator (and real) in each split."""
    found: dict[str, dict[str, Any]] = {}
    for one, where in zip(listed, split, strict=True):
        row = found.setdefault(
            one.generator, {"generator": one.generator, **dict.fromkeys(SPLITS, 0)}
        )
        row[where] += 1
    return [found[name] for name in sorted(found)]
