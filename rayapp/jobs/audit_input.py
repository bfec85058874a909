"""Inspection of a set of any size: images read, decoded and accounted for by workers."""

import contextlib
import json
from dataclasses import asdict

from rayapp.audit.audit_page import render_set
from rayapp.audit.findings import of_a_set
from rayapp.audit.inspect import EXTRA, StreamedAudit
from rayapp.audit.inspected import Inspected
from rayapp.audit.settings import AuditSettings
from rayapp.cluster.session import on_demand
from rayapp.cluster.streamed import given_input, stream_rows
from rayapp.dataset import manifest
from rayapp.run import record
from rayapp.run.resume import nothing_left

PAGE, FACTS, MANIFEST = "audit.html", "audit.json", "manifest.parquet"
FOLDER = MANIFEST.removesuffix(".parquet")
_BATCH = 16


def audit_input(settings: AuditSettings) -> record.Run:
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
