"""What a perturbation leaves: a manifest row an image × variant, a list beside each list given."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from rayapp import manifest
from rayapp.labels import AnnotationList, Item, LabelScheme, write_list
from rayapp.perturb.layout import Target, list_name
from rayapp.storage import Store
from rayapp.transforms import PLAIN

MANIFEST = "manifest.parquet"
STATUS_SKIPPED = "skipped"  # the variant asks for a larger image (`small: skip`)
_CHUNK = 4096

OUTPUTS = pa.list_(
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
_SOURCE = {"group": pa.string(), "source_sha256": pa.string()}
_EXTRA = {
    **_SOURCE,
    "variant": pa.string(),
    "source_id": pa.string(),
    "source_path": pa.string(),
    "pixel_sha256": pa.string(),
    "plan": pa.string(),
}


def row_schema(scheme: LabelScheme) -> pa.Schema:
    """One row a source image, with what was made of it; width and height are the source's."""
    return manifest.schema(scheme, {**_SOURCE, "name": pa.string(), "outputs": OUTPUTS})


def output_path(name: str, variant: str) -> str:
    """Where a variant of an image lies."""
    return name if variant == PLAIN else f"{variant}/{name}"


def expand(table: pa.Table, scheme: LabelScheme, variants: Sequence[str]) -> pa.Table:
    """The manifest: one row an image × variant, sorted by id.

    A variant that the image is too small for has the status `skipped` and says so; an image that
    failed keeps one row with its error.
    """
    wanted = manifest.schema(scheme, _EXTRA)
    chunks = []
    for at in range(0, table.num_rows, _CHUNK):
        rows = table.slice(at, _CHUNK).to_pylist()
        chunks.append(
            pa.Table.from_pylist([new for row in rows for new in _expanded(row, variants)], wanted)
        )
    return pa.concat_tables(chunks).sort_by("id") if chunks else wanted.empty_table()


def _expanded(row: Mapping[str, Any], variants: Sequence[str]) -> Iterator[dict[str, Any]]:
    base = {**row, "source_id": row["id"], "source_path": row["path"], "path": row["name"]}
    if row["status"] != manifest.STATUS_OK:
        yield base
        return
    made = {output["variant"]: output for output in row["outputs"]}
    for variant in variants:
        identity = row["id"] if variant == PLAIN else f"{row['id']}@{variant}"
        named = {"id": identity, "variant": variant, "path": output_path(row["name"], variant)}
        if variant in made:
            yield {**base, **named, **made[variant], "format": "WEBP"}
        else:
            size = f"{row['height']}×{row['width']} px"
            error = f"the image of {size} (height × width) is too small for {variant}"
            yield {**base, **named, "status": STATUS_SKIPPED, "error": error}


def write_lists(
    store: Store,
    whole: pa.Table,
    lists: Sequence[AnnotationList],
    planned: Sequence[Sequence[Target]],
    variants: Sequence[str],
) -> list[str]:
    """Write a list of what was made for each variant and list given; their keys."""
    columns = (whole[name].to_pylist() for name in ("path", "status"))
    there = {path for path, status in zip(*columns, strict=True) if status == manifest.STATUS_OK}
    keys = []
    for variant in variants:
        for one, named in zip(lists, planned, strict=True):
            paths = [(output_path(target.name, variant), target.item.labels) for target in named]
            items = [Item(path, path, labels) for path, labels in paths if path in there]
            if items:
                name = list_name(one.source)
                keys.append(f"lists/{name}" if variant == PLAIN else f"lists/{variant}/{name}")
                write_list(store, keys[-1], items, one.scheme)
    return keys


def count_by_variant(whole: pa.Table, variants: Sequence[str]) -> dict[str, dict[str, int]]:
    """Variant → status → rows; an image that failed has no variant and is not counted here."""
    pairs = zip(whole["variant"].to_pylist(), whole["status"].to_pylist(), strict=True)
    counts = Counter(pairs)
    statuses = (manifest.STATUS_OK, STATUS_SKIPPED)
    return {v: {status: counts[v, status] for status in statuses} for v in variants}
