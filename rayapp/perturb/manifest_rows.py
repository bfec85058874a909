"""What a perturbation leaves: a manifest row an image × variant, a list beside each list given."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from rayapp.dataset import manifest
from rayapp.dataset.labels import AnnotationList, Item, LabelScheme, write_list
from rayapp.perturb.file_names import Target, list_name
from rayapp.run.first_lines import FirstLines
from rayapp.storage.store import Store
from rayapp.transforms.perturbations import PLAIN

MANIFEST = "manifest.parquet"
STATUS_SKIPPED = "skipped"  # the variant asks for a larger image (`small: skip`)
_SHOWN_MISSES = 5

OUTPUTS = manifest.written_images("variant")
_SOURCE = {"group": pa.string(), "source_sha256": pa.string()}
_EXTRA = {
    **_SOURCE,
    "variant": pa.string(),
    "source_id": pa.string(),
    "source_path": pa.string(),
    "pixel_sha256": pa.string(),
    "plan": pa.string(),
}


def row_schema(scheme: LabelScheme | None) -> pa.Schema:
    """One row a source image, with what was made of it; width and height are the source's."""
    return manifest.schema(scheme, {**_SOURCE, "name": pa.string(), "outputs": OUTPUTS})


def output_path(name: str, variant: str) -> str:
    """Where a variant of an image lies."""
    return name if variant == PLAIN else f"{variant}/{name}"


def manifest_schema(scheme: LabelScheme | None) -> pa.Schema:
    """Columns of the manifest: one row an image × variant."""
    return manifest.schema(scheme, _EXTRA)


def expand(table: pa.Table, wanted: pa.Schema, variants: Sequence[str]) -> pa.Table:
    """Rows of the manifest, of columns `wanted`: one an image × variant, both in their order.

    A variant that the image is too small for has the status `skipped` and says so; an image that
    failed keeps one row with its error.
    """
    expanded = [new for row in table.to_pylist() for new in _expanded(row, variants)]
    return pa.Table.from_pylist(expanded, wanted)


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


class Counts:
    """What was made of a set, counted while its rows go by; in any order, and in parts."""

    def __init__(self, variants: Sequence[str]) -> None:
        """Nothing counted yet."""
        self.by_status: Counter[str] = Counter()
        self._variants = variants
        self._by_variant: Counter[tuple[str, str]] = Counter()
        self._misses = FirstLines(_SHOWN_MISSES)

    def add(self, whole: pa.Table) -> None:
        """Count rows of the manifest."""
        for row in whole.to_pylist():
            self._see(row)

    def merge(self, other: "Counts") -> None:
        """As if the other's rows had come by here."""
        self.by_status.update(other.by_status)
        self._by_variant.update(other._by_variant)
        self._misses.merge(other._misses)

    def _see(self, row: Mapping[str, Any]) -> None:
        self.by_status[row["status"]] += 1
        self._by_variant[row["variant"], row["status"]] += 1
        if row["status"] not in (manifest.STATUS_OK, STATUS_SKIPPED):
            number = row.get("row", self._misses.count)
            self._misses.add(number, f"{row['source_path']}: {row['error']}")

    @property
    def misses(self) -> list[str]:
        """The first images that failed, and why."""
        return self._misses.lines

    @property
    def by_variant(self) -> dict[str, dict[str, int]]:
        """Variant → status → rows; an image that failed has no variant and is not counted here."""
        statuses = (manifest.STATUS_OK, STATUS_SKIPPED)
        return {v: {s: self._by_variant[v, s] for s in statuses} for v in self._variants}

    def run_counts(self, num_images: int) -> dict[str, int]:
        """As run.json has them."""
        return {
            "in": num_images,
            "written": self.by_status[manifest.STATUS_OK],
            "skipped": self.by_status[STATUS_SKIPPED],
            "failed": self._misses.count,
        }


class Tally(Counts):
    """What run.json says of a set whose manifest is one table, counted in its order."""

    def __init__(self, variants: Sequence[str]) -> None:
        """Nothing counted yet."""
        super().__init__(variants)
        self.not_made: set[str] = set()  # paths that no list may name
        self._pixels = hashlib.sha256()

    def _see(self, row: Mapping[str, Any]) -> None:
        super()._see(row)
        if row["status"] == manifest.STATUS_OK:
            self._pixels.update(f"{row['id']}\0{row['pixel_sha256']}\n".encode())
        elif row["status"] == STATUS_SKIPPED:
            self.not_made.add(row["path"])
        else:
            self.not_made.update(output_path(row["path"], one) for one in self._variants)

    @property
    def pixels_sha256(self) -> str:
        """Hash over the ids and pixels of all that was made."""
        return self._pixels.hexdigest()


def write_lists(
    store: Store,
    not_made: Collection[str],
    lists: Sequence[AnnotationList],
    planned: Sequence[Sequence[Target]],
    variants: Sequence[str],
) -> list[str]:
    """Write a list of what was made for each variant and list given; their keys."""
    keys = []
    for variant in variants:
        for one, named in zip(lists, planned, strict=True):
            paths = ((output_path(t.name, variant), t.item.labels) for t in named)
            items = [Item(path, path, labels) for path, labels in paths if path not in not_made]
            if items:
                name = list_name(one.list_uri)
                keys.append(f"lists/{name}" if variant == PLAIN else f"lists/{variant}/{name}")
                write_list(store, keys[-1], items, one.scheme)
    return keys
