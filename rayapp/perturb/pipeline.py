"""Perturbation on Ray Data: each image decoded once, all its variants written, nothing redrawn."""

from collections.abc import Sequence
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from rayapp import cluster, manifest, rows, runs
from rayapp.errors import JobFailed, UserError
from rayapp.images import sha256
from rayapp.labels import Item, LabelScheme, load_scheme, read_lists
from rayapp.perturb.layout import PlanName, Target, targets
from rayapp.perturb.preview import write_preview
from rayapp.perturb.replay import check_published, replay
from rayapp.perturb.results import (
    MANIFEST,
    STATUS_SKIPPED,
    count_by_variant,
    expand,
    row_schema,
    write_lists,
)
from rayapp.perturb.work import PerturbRows, SizeRows
from rayapp.settings import JobSettings
from rayapp.storage import Store, absolute_uri, open_store, read_uri
from rayapp.transforms import (
    Protocol,
    load_protocol,
)
from rayapp.transforms.published import PUBLISHED_SEED

_BATCH = 16
_CARRIED = ("source", "licence", "group")
_PUBLISHED_PROTOCOL = "imaginet-test"
_SHOWN_MISSES = 5


class PerturbSettings(JobSettings):
    """Make a perturbed test set: every annotated image under a protocol, as lossless WebP."""

    annotations: tuple[str, ...] = Field(min_length=1, description="annotation lists, in order")
    root: str = Field(description="folder or s3:// prefix under which the annotated images lie")
    protocol: str = Field(
        _PUBLISHED_PROTOCOL, description="a shipped protocol's name, or a YAML file"
    )
    scheme: str = Field("imaginet", description="label scheme of the lists")
    seed: int = Field(PUBLISHED_SEED, description="seed of all draws")
    plan: PlanName = Field(
        "clean",
        description="clean: each image once; legacy: repeats kept, as in the published lists; "
        "published: legacy with the published test set's own draws, replayed",
    )
    manifest: str | None = Field(
        None, description="the images' own manifest; its source, licence and group are carried over"
    )
    preview: int = Field(
        0, ge=0, le=100, description="so many images with their variants on one sheet, preview.png"
    )

    @model_validator(mode="after")
    def _published_is_fixed(self) -> Self:
        fixed = {"protocol": _PUBLISHED_PROTOCOL, "seed": PUBLISHED_SEED}
        for name, value in fixed.items() if self.plan == "published" else ():
            if getattr(self, name) != value:
                raise ValueError(f"plan published has draws of its own: leave {name} at {value}")
        return self


def perturb(settings: PerturbSettings) -> runs.Run:
    """Perturb every annotated image, or go on with it; images that failed are tried again.

    Raises:
        UserError: a wrong list or protocol, or an output that belongs to another run.
        JobFailed: images of a finished run are gone.
    """
    scheme = load_scheme(settings.scheme)
    protocol = load_protocol(settings.protocol)
    lists = read_lists(settings.annotations, scheme)
    planned = targets(lists, settings.plan)
    if settings.plan == "published":
        check_published(lists)
    root = open_store(settings.root)
    run = _start(settings, protocol)
    if run.state == "done" and not run.counts["failed"]:
        whole = manifest.read_table(run.store, MANIFEST)
        _check_there(run, whole)
    else:
        if next(iter(root.list()), None) is None:
            raise UserError(f"{root.root}: --root holds no file")
        work = PerturbRows(root, run.store, protocol, settings.seed)
        with cluster.session(settings):
            table = _on_ray(_work_list(planned, scheme, settings), planned, work, run, settings)
        whole = expand(table, scheme, protocol.variant_names)
        manifest.write_table(run.store, MANIFEST, whole)
        keys = write_lists(run.store, whole, lists, planned, protocol.variant_names)
        run.finish(_counts(table, whole), _results(whole, keys, protocol))
        if not run.counts["failed"]:
            rows.drop_parts(run.store)
    if settings.preview:
        write_preview(root, run.store, whole, settings.preview)
    return run


def _start(settings: PerturbSettings, protocol: Protocol) -> runs.Run:
    inputs = {uri: sha256(read_uri(uri)) for uri in settings.annotations}
    inputs |= {"protocol": protocol.hash, "root": absolute_uri(settings.root)}
    if settings.manifest:
        inputs[settings.manifest] = sha256(read_uri(settings.manifest))
    done = settings.model_copy(update={"preview": 0})  # a sheet changes nothing in the set
    return runs.start("perturb", done, inputs, output=settings.output, overwrite=settings.overwrite)


def _work_list(
    planned: Sequence[Sequence[Target]], scheme: LabelScheme, settings: PerturbSettings
) -> pa.Table:
    """One row an image: id, path of the file it is made from, labels, target name."""
    flat = [target for named in planned for target in named]
    items = [Item(t.item.id, t.source, t.item.labels) for t in flat]
    table = manifest.item_rows(items, scheme)
    table = table.append_column("name", pa.array([t.name for t in flat], pa.string()))
    if settings.manifest is None:
        return table
    known = manifest.read_table_uri(settings.manifest)
    at = {path: index for index, path in enumerate(known["path"].to_pylist())}
    for column in _CARRIED:
        if column in known.column_names:
            values = known[column].to_pylist()
            carried = [values[at[t.source]] if t.source in at else None for t in flat]
            table = table.append_column(column, pa.array(carried, pa.string()))
    return table


def _on_ray(
    table: pa.Table,
    planned: Sequence[Sequence[Target]],
    work: PerturbRows,
    run: runs.Run,
    settings: PerturbSettings,
) -> pa.Table:
    """The work list through Ray: one row an image with what was made of it."""
    if settings.plan == "published":
        table = _with_published_plans(table, planned, work.root, run, settings)
    return rows.map_rows(
        table,
        work,
        row_schema(load_scheme(settings.scheme)),
        run=run,
        batch_size=_BATCH,
        wait_s=settings.wait_s,
        verify=lambda finished: _still_there(run.store, finished),
    )


def _with_published_plans(
    table: pa.Table,
    planned: Sequence[Sequence[Target]],
    root: Store,
    run: runs.Run,
    settings: PerturbSettings,
) -> pa.Table:
    """A first pass for the sizes, then two columns more: the plan, or why there is none."""
    paths = pc.unique(table["path"])
    sized = rows.map_rows(
        pa.table({"id": paths, "path": paths}),
        SizeRows(root),
        manifest.schema(),
        run=run,
        batch_size=_BATCH,
        wait_s=settings.wait_s,
        stage="image sizes",
    )
    columns = (sized[name].to_pylist() for name in ("path", "height", "width", "status"))
    sizes = {
        path: (height, width) if status == manifest.STATUS_OK else None
        for path, height, width, status in zip(*columns, strict=True)
    }
    replayed = replay(planned, sizes)
    found = [replayed[identity] for identity in table["id"].to_pylist()]
    table = table.append_column("plan", pa.array([one.plan for one in found], pa.string()))
    return table.append_column("fault", pa.array([one.fault for one in found], pa.string()))


def _still_there(store: Store, finished: pa.Table) -> pa.Table:
    """The finished rows whose images are all there at their recorded size.

    Images arrive whole or not at all, so a file of the right name and size is the one written;
    bytes changed afterwards are for the manifest's sha256 to tell.
    """
    sizes = {stat.key: stat.size for stat in store.list()}
    return finished.filter(
        pa.array(
            all(sizes.get(made["path"]) == made["bytes"] for made in outputs)
            for outputs in finished["outputs"].to_pylist()
        )
    )


def _check_there(run: runs.Run, whole: pa.Table) -> None:
    """A finished run whose images were removed since is not done."""
    there = {stat.key for stat in run.store.list()}
    pairs = zip(whole["path"].to_pylist(), whole["status"].to_pylist(), strict=True)
    gone = [path for path, status in pairs if status == manifest.STATUS_OK and path not in there]
    if gone:
        raise JobFailed(
            f"{run.store.root}: {len(gone):,} images of the manifest are gone, first {gone[0]}; "
            "--overwrite makes the set anew"
        )


def _counts(table: pa.Table, whole: pa.Table) -> dict[str, int]:
    failed = manifest.count_failed(table)
    skipped = pc.sum(pc.equal(whole["status"], STATUS_SKIPPED)).as_py() or 0
    written = whole.num_rows - failed - skipped
    return {"in": table.num_rows, "written": written, "skipped": skipped, "failed": failed}


def _results(whole: pa.Table, keys: Sequence[str], protocol: Protocol) -> dict[str, Any]:
    failed = whole.filter(pc.equal(whole["status"], manifest.STATUS_FAILED))
    misses = failed.select(["source_path", "error"]).slice(0, _SHOWN_MISSES).to_pylist()
    made = whole.filter(pc.equal(whole["status"], manifest.STATUS_OK))
    pixels = zip(made["id"].to_pylist(), made["pixel_sha256"].to_pylist(), strict=True)
    return {
        "lists": list(keys),
        "variants": count_by_variant(whole, protocol.variant_names),
        "misses": [f"{miss['source_path']}: {miss['error']}" for miss in misses],
        "pixels_sha256": runs.digest(*(text.encode() for pair in pixels for text in pair)),
    }
