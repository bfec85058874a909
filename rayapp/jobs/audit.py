"""The audit on Ray Data: each image read and decoded once; the rest is what the rows tell."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayapp.audit import shortcuts as outside
from rayapp.audit.audit_page import render, render_set
from rayapp.audit.findings import (
    Copies,
    Finding,
    find_copies,
    list_facts,
    of_a_set,
    of_the_images,
    of_the_lists,
    of_the_shortcuts,
)
from rayapp.audit.inspect import EXTRA, AuditRows, StreamedAudit
from rayapp.audit.inspected import Inspected
from rayapp.audit.lists import Listed, names_of, role_of
from rayapp.audit.settings import AuditSettings
from rayapp.audit.shortcuts import Shortcut, shortcuts
from rayapp.cluster.map_rows import map_rows
from rayapp.cluster.session import on_demand
from rayapp.cluster.streamed import given_input, stream_rows
from rayapp.config.errors import UserError
from rayapp.dataset import manifest, near_duplicates
from rayapp.dataset.grouping import joined
from rayapp.dataset.images import sha256
from rayapp.dataset.labels import Item, LabelScheme, item_id, load_scheme, read_list
from rayapp.run import record
from rayapp.run.resume import nothing_left
from rayapp.run.row_parts import drop_parts
from rayapp.storage.uris import open_store, read_uri

PAGE, FACTS, MANIFEST = "audit.html", "audit.json", "manifest.parquet"
FOLDER = MANIFEST.removesuffix(".parquet")
_BATCH = 16


def audit(settings: AuditSettings) -> record.Run:
    """Audit lists and images; audit.html, audit.json and a manifest with hashes.

    Raises:
        UserError: a list that can't be read, or an output that belongs to another run.
    """
    if settings.input:
        return _of_input(settings)
    scheme = load_scheme(settings.scheme)
    lists = _read(settings, scheme)
    inputs = {uri: sha256(read_uri(uri)) for uri in settings.annotations}
    inputs |= {"root": settings.root} if settings.root else {}
    run = record.start(
        "audit", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if nothing_left(run):
        return run
    items = {item_id(item.path): item for one in lists for item in one.rows}
    work = manifest.item_rows(
        [Item(name, item.path, item.labels) for name, item in items.items()], scheme
    )
    table = None if settings.lists_only else _inspected(work, scheme, run, settings)
    _report(run, lists, work, table, settings)
    if table is not None and not manifest.count_failed(table):
        drop_parts(run.store)
    return run


def _read(settings: AuditSettings, scheme: LabelScheme) -> list[Listed]:
    if "origin" not in scheme.columns:
        raise UserError(f"{settings.scheme}: the scheme has no column origin")
    lists = []
    for uri, name in zip(settings.annotations, names_of(settings.annotations), strict=True):
        role = settings.roles.get(PurePosixPath(uri).name, role_of(name))
        lists.append(Listed.of(read_list(uri, scheme, on_defect="collect"), name, role))
    return lists


def _inspected(
    work: pa.Table, scheme: LabelScheme, run: record.Run, settings: AuditSettings
) -> pa.Table:
    """Every image through Ray; a row each, with the group that it looks like."""
    assert settings.root is not None
    with on_demand(settings):
        table = map_rows(
            work,
            AuditRows(open_store(settings.root)),
            manifest.schema(scheme, EXTRA),
            run=run,
            batch_size=_BATCH,
            wait_s=settings.wait_s,
        ).table()
    table = table.append_column("group", _groups(table))
    manifest.write_table(run.store, MANIFEST, table)
    return table


def _groups(table: pa.Table) -> pa.Array:
    """The id of the first image of each image's group: equal bytes or alike, in a chain."""
    columns = (table[name].to_pylist() for name in ("perceptual_hash", "sha256"))
    return table["id"].take(pa.array(near_duplicates.pictures(*columns))).combine_chunks()


def _pairs(images: pa.Table, root: str) -> pa.Array:
    """The group that reconstruct gave each image and its partner; of others, their id."""
    store = open_store(root)
    known: dict[str, str] = {}
    if manifest.is_there(store, MANIFEST):
        made = manifest.read_table(store, MANIFEST)
        if {"autoencoder", "group"} <= set(made.column_names):
            paths = map(item_id, made["path"].to_pylist())
            known = dict(zip(paths, made["group"].to_pylist(), strict=True))
    return pa.array([known.get(one, one) for one in images["id"].to_pylist()], pa.string())


def _report(
    run: record.Run,
    lists: Sequence[Listed],
    work: pa.Table,
    table: pa.Table | None,
    settings: AuditSettings,
) -> None:
    facts: dict[str, Any] = {"images": work.num_rows, **list_facts(lists)}
    findings = of_the_lists(lists, facts)
    copies: Copies | None = None
    seen: Inspected | None = None
    if table is None:
        found = _shortcuts(
            work.append_column("group", work["id"]).append_column("pair", work["id"])
        )
    else:
        assert settings.root is not None
        sound = table.filter(pc.equal(table["status"], manifest.STATUS_OK))
        sound = sound.append_column("pair", _pairs(sound, settings.root))
        copies, found = find_copies(sound, lists), _shortcuts(sound)
        seen = Inspected().see(table)
        findings += of_the_images(seen, copies)
        facts["copies"] = {
            "across": [asdict(pair) for pair in copies.across],
            "contradictions": [asdict(pair) for pair in copies.contradictions],
            "same_bytes": [list(group) for group in copies.same_bytes],
            "other_origin": [asdict(pair) for pair in copies.other_origin],
            "look_like_another": copies.num_alike,
        }
    findings += of_the_shortcuts(found)
    facts["shortcuts"] = [asdict(one) for one in found]
    facts["findings"] = [asdict(one) for one in findings]
    root = open_store(settings.root) if settings.root else None
    page = render(facts, findings, found, copies, seen, root)
    run.claim()
    run.store.put(PAGE, page.encode())
    run.store.put(FACTS, json.dumps(facts, indent=1, ensure_ascii=False).encode())
    made = (PAGE, FACTS) if table is None else (PAGE, FACTS, MANIFEST)
    run.finish(_counts(findings, work, table), {"findings": facts["findings"]}, made=made)


def _shortcuts(table: pa.Table) -> list[Shortcut]:
    synthetic_N = np.array(table["origin"].to_pylist(), np.int64) != 0
    if not 0 < synthetic_N.sum() < len(synthetic_N):
        return []
    keys = zip(*(table[name].to_pylist() for name in ("group", "pair")), strict=True)
    ids = table["id"].to_pylist()
    groups = [ids[at] for at in joined([[f"look {look}", f"pair {pair}"] for look, pair in keys])]
    return shortcuts(outside.features(table), synthetic_N.astype(np.int64), groups)


def _counts(findings: Sequence[Finding], work: pa.Table, table: pa.Table | None) -> dict[str, int]:
    wrong = sum(one.wrong for one in findings)
    counts = {"images": work.num_rows, "wrong": wrong, "remarks": len(findings) - wrong}
    if table is not None:
        failed = manifest.count_failed(table)
        counts |= {"decoded": table.num_rows - failed, "failed": failed}
    return counts


def _of_input(settings: AuditSettings) -> record.Run:
    """Inspect every image of a set, or go on with it; the manifest is a folder of parts.

    Raises:
        UserError: no such input, or an output that belongs to another run.
        JobFailed: rows were lost.
    """
    with contextlib.ExitStack() as opened:
        large = given_input(settings, opened)
        run = record.start(
            "audit",
            settings,
            {"input": large.digest},
            output=settings.output,
            overwrite=settings.overwrite,
        )
        if nothing_left(run):
            return run
        opened.enter_context(on_demand(settings))
        shards = large.shards
        facts, work = manifest.schema(shards.scheme, EXTRA), StreamedAudit(shards.root)
        streamed = stream_rows(settings, run, large, work, facts, FOLDER, _BATCH)
        seen, repeats = streamed.gather(Inspected()), streamed.repeats()
        findings = of_a_set(seen, repeats)
        told = {
            "images": streamed.num_rows,
            "copies": asdict(repeats),
            "left_out": dict(shards.left_out.most_common()),
            "findings": [asdict(one) for one in findings],
        }
        run.store.put(PAGE, render_set(seen, findings, repeats).encode())
        run.store.put(FACTS, json.dumps(told, indent=1, ensure_ascii=False).encode())
        if streamed.is_small:
            manifest.write_table(run.store, MANIFEST, streamed.table())
        streamed.folder.finish(seen.parts, {"job": run.job})
    wrong = sum(one.wrong for one in findings)
    counts = {"images": seen.rows, "wrong": wrong, "remarks": len(findings) - wrong}
    counts |= {"decoded": seen.rows - seen.failed, "failed": seen.failed}
    files = (MANIFEST,) if streamed.is_small else ()
    results = {"findings": told["findings"], "repeats": told["copies"]}
    run.finish(counts, results, made=(PAGE, FACTS, FOLDER, *files))
    return run
