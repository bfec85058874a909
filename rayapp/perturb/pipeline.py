"""Perturbation on Ray Data: each image decoded once, all its variants written, nothing redrawn."""

from collections.abc import Callable, Iterator, Sequence
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from rayapp import cluster, manifest, rows, runs
from rayapp.errors import JobFailed, UserError
from rayapp.images import sha256
from rayapp.labels import AnnotationList, Item, LabelScheme, load_scheme, read_lists
from rayapp.parts import Parts, drop_parts
from rayapp.perturb.layout import PlanName, Target, targets
from rayapp.perturb.preview import write_preview
from rayapp.perturb.replay import check_published, replay
from rayapp.perturb.results import (
    MANIFEST,
    STATUS_SKIPPED,
    Tally,
    expand,
    manifest_schema,
    row_schema,
    write_lists,
)
from rayapp.perturb.work import PerturbRows, SizeRows
from rayapp.settings import JobSettings
from rayapp.storage import Store, open_store, read_uri
from rayapp.transforms import (
    Protocol,
    load_protocol,
)
from rayapp.transforms.published import PUBLISHED_SEED
from rayapp.uris import Packaged, Uri

_BATCH = 16
_CARRIED = ("source", "licence", "group")
_PUBLISHED_PROTOCOL = "imaginet-test"


class PerturbSettings(JobSettings):
    """Make a perturbed test set: every annotated image under a protocol, as lossless WebP."""

    annotations: tuple[Uri, ...] = Field(min_length=1, description="annotation lists, in order")
    root: Uri = Field(description="folder or s3:// prefix under which the annotated images lie")
    protocol: Packaged = Field(
        _PUBLISHED_PROTOCOL, description="a shipped protocol's name, or a YAML file"
    )
    scheme: Packaged = Field("imaginet", description="label scheme of the lists")
    seed: int = Field(PUBLISHED_SEED, description="seed of all draws")
    plan: PlanName = Field(
        "clean",
        description="clean: each image once; legacy: repeats kept, as in the published lists; "
        "published: legacy with the published test set's own draws, replayed",
    )
    manifest: Uri | None = Field(
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
        _check_there(run)
    else:
        if next(iter(root.list()), None) is None:
            raise UserError(f"{root.root}: --root holds no file")
        work = PerturbRows(root, run.store, protocol, settings.seed)
        with cluster.session(settings):
            made = _on_ray(_work_list(planned, scheme, settings), planned, work, run, settings)
        _finish(run, made, lists, planned, protocol, scheme)
    if settings.preview:
        whole = manifest.read_table(run.store, MANIFEST)
        write_preview(root, run.store, whole, settings.preview)
    return run


def _finish(
    run: runs.Run,
    made: Parts,
    lists: Sequence[AnnotationList],
    planned: Sequence[Sequence[Target]],
    protocol: Protocol,
    scheme: LabelScheme,
) -> None:
    """Write the manifest, the lists and run.json, in this order, some thousand rows at a time."""
    tally = Tally(protocol.variant_names)

    def chunks() -> Iterator[pa.Table]:
        for rows_made in made.chunks():
            whole = expand(rows_made, scheme, protocol.variant_names)
            tally.add(whole)
            yield whole

    manifest.write_chunks(run.store, MANIFEST, chunks(), manifest_schema(scheme))
    keys = write_lists(run.store, tally.not_made, lists, planned, protocol.variant_names)
    counts = {
        "in": made.num_rows,
        "written": tally.counts[manifest.STATUS_OK],
        "skipped": tally.counts[STATUS_SKIPPED],
        "failed": made.num_failed,
    }
    results = {
        "lists": keys,
        "variants": tally.by_variant,
        "misses": tally.misses,
        "pixels_sha256": tally.pixels_sha256,
    }
    run.finish(counts, results, made=(MANIFEST, *keys))
    if not made.num_failed:
        drop_parts(run.store)


def _start(settings: PerturbSettings, protocol: Protocol) -> runs.Run:
    inputs = {uri: sha256(read_uri(uri)) for uri in settings.annotations}
    inputs |= {"protocol": protocol.hash, "root": settings.root}
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
) -> Parts:
    """The work list through Ray: one row an image with what was made of it."""
    if settings.plan == "published":
        table = _with_published_plans(table, planned, work.root, run, settings)
    return rows.map_rows(
        table.sort_by("id"),
        work,
        row_schema(load_scheme(settings.scheme)),
        run=run,
        batch_size=_BATCH,
        wait_s=settings.wait_s,
        verify=_still_there(run.store),
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
    ).table()
    columns = (sized[name].to_pylist() for name in ("path", "height", "width", "status"))
    sizes = {
        path: (height, width) if status == manifest.STATUS_OK else None
        for path, height, width, status in zip(*columns, strict=True)
    }
    replayed = replay(planned, sizes)
    found = [replayed[identity] for identity in table["id"].to_pylist()]
    table = table.append_column("plan", pa.array([one.plan for one in found], pa.string()))
    return table.append_column("fault", pa.array([one.fault for one in found], pa.string()))


def _still_there(store: Store) -> Callable[[pa.Table], pa.Table]:
    """Gives back the finished rows whose images are all there at their recorded size.

    Images arrive whole or not at all, so a file of the right name and size is the one written;
    bytes changed afterwards are for the manifest's sha256 to tell.
    """
    sizes: dict[str, int] = {}

    def verify(finished: pa.Table) -> pa.Table:
        if not sizes:
            sizes.update((stat.key, stat.size) for stat in store.list())
        return finished.filter(
            pa.array(
                all(sizes.get(made["path"]) == made["bytes"] for made in outputs)
                for outputs in finished["outputs"].to_pylist()
            )
        )

    return verify


def _check_there(run: runs.Run) -> None:
    """A finished run whose images were removed since is not done."""
    whole = manifest.read_table(run.store, MANIFEST)
    made = whole.filter(pc.equal(whole["status"], manifest.STATUS_OK))["path"]
    there = pa.array((stat.key for stat in run.store.list()), pa.string())
    gone = made.filter(pc.invert(pc.is_in(made, value_set=there)))
    if len(gone):
        raise JobFailed(
            f"{run.store.root}: {len(gone):,} images of the manifest are gone, first {gone[0]}; "
            "--overwrite makes the set anew"
        )
