"""Perturbation on Ray Data: each image decoded once, all its variants written, nothing redrawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import pyarrow as pa
from pydantic import Field

from rayapp import cluster, manifest, rows, runs
from rayapp.images import decode, pixel_sha256, sha256
from rayapp.labels import AnnotationList, Item, LabelScheme, load_scheme, read_lists, write_list
from rayapp.perturb.layout import Order, Target, targets
from rayapp.settings import JobSettings
from rayapp.storage import Store, absolute_uri, open_store, read_uri
from rayapp.transforms import (
    PLAIN,
    Protocol,
    apply_each,
    decode_fast,
    encode_lossless,
    load_protocol,
)

_BATCH = 16
_CARRIED = ("source", "licence", "group")
_OUTPUTS = pa.list_(
    pa.struct(
        {
            "variant": pa.string(),
            "path": pa.string(),
            "sha256": pa.string(),
            "pixel_sha256": pa.string(),
            "bytes": pa.int64(),
            "width": pa.int32(),
            "height": pa.int32(),
            "plan": pa.string(),
        }
    )
)
_EXTRA = {
    "group": pa.string(),
    "variant": pa.string(),
    "source_path": pa.string(),
    "pixel_sha256": pa.string(),
    "plan": pa.string(),
}


class PerturbSettings(JobSettings):
    """Make a perturbed test set: every annotated image under a protocol, as lossless WebP."""

    annotations: tuple[str, ...] = Field(min_length=1, description="annotation lists, in order")
    root: str = Field(description="folder or s3:// prefix under which the annotated images lie")
    protocol: str = Field("imaginet-test", description="a shipped protocol's name, or a YAML file")
    scheme: str = Field("imaginet", description="label scheme of the lists")
    seed: int = Field(42, description="seed of all draws")
    order: Order = Field("clean", description="clean: each image once; legacy: repeats kept")
    manifest: str | None = Field(
        None, description="the images' own manifest; its source, licence and group are carried over"
    )


def perturb(settings: PerturbSettings) -> runs.Run:
    """Perturb every annotated image, or go on with it.

    Raises:
        UserError: a wrong list or protocol, or an output that belongs to another run.
    """
    scheme = load_scheme(settings.scheme)
    protocol = load_protocol(settings.protocol)
    lists = read_lists(settings.annotations, scheme)
    inputs = {uri: sha256(read_uri(uri)) for uri in settings.annotations}
    inputs |= {"protocol": protocol.hash, "root": absolute_uri(settings.root)}
    if settings.manifest:
        inputs[settings.manifest] = sha256(read_uri(settings.manifest))
    run = runs.start(
        "perturb", settings, inputs, output=settings.output, overwrite=settings.overwrite
    )
    if run.state == "done":
        return run
    planned = targets(lists, settings.order)
    work = PerturbRows(open_store(settings.root), run.store, protocol, settings.seed)
    with cluster.session(settings):
        table = rows.map_rows(
            _work_list(planned, scheme, settings.manifest),
            work,
            manifest.schema(
                scheme, {"group": pa.string(), "name": pa.string(), "outputs": _OUTPUTS}
            ),
            run=run,
            batch_size=_BATCH,
            wait_s=settings.wait_s,
        )
    _finish(run, table, scheme, lists, planned, protocol)
    return run


def _work_list(
    planned: Sequence[Sequence[Target]], scheme: LabelScheme, manifest_uri: str | None
) -> pa.Table:
    """One row an image: id, path of the file it is made from, labels, target name."""
    flat = [target for named in planned for target in named]
    items = [Item(t.item.id, t.source, t.item.labels) for t in flat]
    table = manifest.item_rows(items, scheme)
    table = table.append_column("name", pa.array([t.name for t in flat], pa.string()))
    if manifest_uri is None:
        return table
    known = manifest.read_table_uri(manifest_uri)
    at = {path: index for index, path in enumerate(known["path"].to_pylist())}
    for column in _CARRIED:
        if column in known.column_names:
            values = known[column].to_pylist()
            carried = [values[at[t.source]] if t.source in at else None for t in flat]
            table = table.append_column(column, pa.array(carried, pa.string()))
    return table


@dataclass
class PerturbRows:
    """Row work: one source image in, its variants written; a pure function of bytes and id."""

    root: Store
    output: Store
    protocol: Protocol
    seed: int

    def setup(self) -> None:
        """OpenCV's own threads would fight over the CPUs that Ray has dealt out."""
        cv2.setNumThreads(1)

    def batch(self, batch: Sequence[rows.Row]) -> list[rows.Row]:
        """Every variant of each image, written under its name."""
        return rows.each(batch, self._one)

    def _one(self, row: rows.Row) -> rows.Row:
        data = self.root.get(row["path"])
        pixels = decode_fast(data)
        if pixels is None:
            pixels = decode(data).pixels_HWC
        plans = self.protocol.draw(pixels.shape[:2], row["id"], self.seed)
        outputs = []
        for variant, changed in apply_each(plans, pixels):
            file = encode_lossless(changed)
            path = row["name"] if variant == PLAIN else f"{variant}/{row['name']}"
            self.output.put(path, file)
            outputs.append(
                {
                    "variant": variant,
                    "path": path,
                    "sha256": sha256(file),
                    "pixel_sha256": pixel_sha256(changed),
                    "bytes": len(file),
                    "width": changed.shape[1],
                    "height": changed.shape[0],
                    "plan": plans[variant].to_json(),
                }
            )
        return {"outputs": outputs}


def _finish(
    run: runs.Run,
    table: pa.Table,
    scheme: LabelScheme,
    lists: Sequence[AnnotationList],
    planned: Sequence[Sequence[Target]],
    protocol: Protocol,
) -> None:
    """Manifest of the new images, a list beside each list that was given, then run.json."""
    made = {row["id"]: row for row in table.to_pylist()}
    new = [out for row in made.values() for out in _expanded(row)]
    whole = manifest.from_rows(new, manifest.schema(scheme, _EXTRA))
    manifest.write_table(run.store, "manifest.parquet", whole)
    keys = []
    for variant in protocol.variant_names:
        for one, named in zip(lists, planned, strict=True):
            items = _listed(named, made, variant)
            if items:
                name = one.source.rsplit("/", 1)[-1]
                keys.append(f"lists/{name}" if variant == PLAIN else f"lists/{variant}/{name}")
                write_list(run.store, keys[-1], items, scheme)
    failed = manifest.count_failed(table)
    counts = {"in": table.num_rows, "failed": failed, "written": len(new) - failed}
    run.finish(counts, {"lists": keys})
    rows.drop_parts(run.store)


def _expanded(row: rows.Row) -> Iterator[rows.Row]:
    """One manifest row a variant; a failed image keeps one row with its error."""
    base = {**row, "source_path": row["path"]}
    if not row["outputs"]:
        yield {**base, "path": row["name"]}
    for output in row["outputs"] or ():
        variant: Any = output["variant"]
        identity = row["id"] if variant == PLAIN else f"{row['id']}@{variant}"
        yield {**base, **output, "id": identity, "format": "WEBP"}


def _listed(named: Sequence[Target], made: dict[str, rows.Row], variant: str) -> list[Item]:
    return [
        Item(output["path"], output["path"], target.item.labels)
        for target in named
        for output in made[target.item.id]["outputs"] or ()
        if output["variant"] == variant
    ]
