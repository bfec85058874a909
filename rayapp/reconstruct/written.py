"""What a run of pairs leaves: a manifest row an image, lists with both of a pair, their scheme."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml

from rayapp.config.errors import UserError
from rayapp.dataset import manifest
from rayapp.dataset.labels import AnnotationList, Item, LabelScheme, item_id, write_list
from rayapp.reconstruct.pair_rows import PARTNER, REAL, Format, output_path
from rayapp.storage.store import Store

MANIFEST, SCHEME, TABLE = "manifest.parquet", "scheme.yaml", "pairs.csv"
ALL_IMAGES = "pairs.txt"  # the list's name where no list was given
STATUS_LEFT_OUT = "left out"  # nothing failed, and another run does no better
_SHOWN_MISSES = 5
_OUTPUTS = manifest.written_images("kind")
_PAIR = {
    "group": pa.string(),
    "source_sha256": pa.string(),
    "crop": pa.list_(pa.int32()),  # top, left, height, width in px of the file as it was stored
    "strength": pa.float32(),  # share of the reconstruction; 1: nothing was mixed in
    "latent_noise": pa.float32(),
    "alignment": pa.string(),
}
_EXTRA = {
    **_PAIR,
    "autoencoder": pa.string(),  # hash; of a real image none
    "source_id": pa.string(),
    "source_path": pa.string(),
    "pixel_sha256": pa.string(),
    "plan": pa.string(),
}


def pairs_scheme(scheme: LabelScheme | None, names: Sequence[str]) -> LabelScheme:
    """Labels of pairs: origin, content where the images' own scheme has it, and generator.

    Args:
        scheme: of the lists that were given; None where there were none.
        names: of the autoencoders, which are the generators.

    Raises:
        UserError: the scheme does not say which images are real.
    """
    if scheme is not None and "origin" not in scheme.columns:
        raise UserError(f"{scheme.name}: the scheme has no column origin")
    columns: dict[str, dict[int, str]] = {"origin": {0: "real", 1: "synthetic"}}
    if scheme is not None and "content" in scheme.columns:
        columns["content"] = scheme.names("content")
    columns["generator"] = dict(enumerate(("real", *names)))
    codes = {0: [0], 1: list(range(1, len(names) + 1))}
    rules = [{"when": {"origin": k}, "then": {"generator": v}} for k, v in codes.items()]
    return LabelScheme.model_validate({"name": "pairs", "columns": columns, "rules": rules})


def row_schema(scheme: LabelScheme) -> pa.Schema:
    """One row a source image, with the pair that was made of it."""
    return manifest.schema(scheme, {**_PAIR, "drawn": pa.int16(), "outputs": _OUTPUTS})


def manifest_schema(scheme: LabelScheme) -> pa.Schema:
    """Columns of the manifest: one row an image. The scheme is named by its file alone."""
    return manifest.schema(scheme, _EXTRA).remove_metadata()


def twins(chunks: Iterable[pa.Table]) -> dict[str, str]:
    """sha256 of a file that has several names → the first: its pairs are one group."""
    first: dict[str, str] = {}
    several: dict[str, str] = {}
    for chunk in chunks:
        for identity, digest in zip(
            chunk["id"].to_pylist(), chunk["source_sha256"].to_pylist(), strict=True
        ):
            if digest and (known := first.setdefault(digest, identity)) != identity:
                several[digest] = min(known, identity, several.get(digest, known))
    return several


def expand(
    table: pa.Table,
    scheme: LabelScheme,
    hashes: Sequence[str],
    format: Format,
    twins: Mapping[str, str],
) -> pa.Table:
    """Rows of the manifest: the real image and its partner; of one that failed one row, its error.

    Args:
        table: rows that came back.
        scheme: of the pairs.
        hashes: of the autoencoders, by the number that was drawn.
        format: of the images.
        twins: files of several names, as `twins` gives them.
    """
    rows = [one for row in table.to_pylist() for one in _expanded(row, hashes, format, twins)]
    return pa.Table.from_pylist(rows, manifest_schema(scheme))


def _expanded(
    row: Mapping[str, Any], hashes: Sequence[str], format: Format, twins: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    base = {**row, "source_id": row["id"], "source_path": row["path"]}
    base["group"] = row["group"] or twins.get(row["source_sha256"], row["id"])
    if not row["outputs"]:
        path = output_path(row["path"], REAL, format)
        if row["status"] == manifest.STATUS_OK:
            base |= {"status": STATUS_LEFT_OUT, "error": row["alignment"]}
        yield {**base, "id": path, "path": path, "origin": 0, "generator": 0}
        return
    for made in row["outputs"]:
        code = int(made["kind"] == PARTNER)
        mine = {} if code else {"strength": None, "latent_noise": None, "alignment": None}
        labels = {"origin": code, "generator": code * (1 + row["drawn"])}
        what = {"autoencoder": hashes[row["drawn"]] if code else None, "format": format.upper()}
        yield {**base, **labels, **mine, **what, **made, "id": item_id(made["path"])}


class Tally:
    """What run.json says of the pairs, counted while the manifest is written."""

    def __init__(self) -> None:
        """Nothing counted yet."""
        self.counts: Counter[str] = Counter()  # by status
        self.alignment: Counter[str] = Counter()  # of partners
        self.misses: list[str] = []
        self.left_out: Counter[str] = Counter()  # by what the file is
        self.left_out_paths: list[str] = []
        self.unpaired: set[str] = set()  # ids of sources
        self._pixels = hashlib.sha256()

    def add(self, rows: pa.Table) -> None:
        """Count rows of the manifest, in its order."""
        for row in rows.to_pylist():
            self.counts[row["status"]] += 1
            if row["status"] == manifest.STATUS_OK:
                self._pixels.update(f"{row['id']}\0{row['pixel_sha256']}\n".encode())
                if row["alignment"]:
                    self.alignment[row["alignment"]] += 1
                continue
            self.unpaired.add(row["source_id"])
            if row["status"] == STATUS_LEFT_OUT:
                self.left_out[row["alignment"]] += 1
                if len(self.left_out_paths) < _SHOWN_MISSES:
                    self.left_out_paths.append(row["source_path"])
            elif len(self.misses) < _SHOWN_MISSES:
                self.misses.append(f"{row['source_path']}: {row['error']}")

    @property
    def pixels_sha256(self) -> str:
        """Hash over the ids and pixels of all that was made."""
        return self._pixels.hexdigest()


def write_scheme(store: Store, scheme: LabelScheme) -> None:
    """Write the scheme, as `--scheme` takes it."""
    text = io.StringIO("# Written by `imaginet reconstruct`: --scheme takes this file.\n")
    text.seek(0, io.SEEK_END)
    yaml.safe_dump(
        scheme.model_dump(exclude_defaults=True), text, sort_keys=False, allow_unicode=True
    )
    store.put(SCHEME, text.getvalue().encode())


def write_lists(
    store: Store,
    taken: Mapping[str, Sequence[Item]],
    unpaired: set[str],
    drawn: Mapping[str, int],
    scheme: LabelScheme,
    format: Format,
) -> list[str]:
    """Write each list with both images of its pairs, one after the other; their keys.

    Args:
        store: the output.
        taken: list name → its real images, labelled as pairs are.
        unpaired: ids of those of which no pair was made.
        drawn: id → number of the autoencoder that was drawn.
        scheme: of the pairs.
        format: of the images.
    """
    keys = []
    for name, items in taken.items():
        both = [
            one
            for item in items
            if item.id not in unpaired
            for one in _both(item, drawn[item.id], scheme, format)
        ]
        if both:
            keys.append(f"lists/{name}")
            write_list(store, keys[-1], both, scheme)
    return keys


def _both(item: Item, drawn: int, scheme: LabelScheme, format: Format) -> Iterator[Item]:
    for code, kind in enumerate((REAL, PARTNER)):
        path = output_path(item.path, kind, format)
        given = dict(zip(scheme.columns, item.labels, strict=True))
        given |= {"origin": code, "generator": code * (1 + drawn)}
        yield Item(path, path, tuple(given.values()))


def write_pairs_table(store: Store, rows: Iterator[pa.Table], names: Sequence[str]) -> None:
    """Write path, origin, generator and group of each image, as `annotate` takes them.

    Args:
        store: the output.
        rows: of the manifest.
        names: of the autoencoders.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "origin", "generator", "group"))
    for chunk in rows:
        for row in chunk.to_pylist():
            if row["status"] == manifest.STATUS_OK:
                made = ("synthetic", names[row["generator"] - 1]) if row["origin"] else ("real", "")
                writer.writerow((row["path"], *made, row["group"]))
    store.put(TABLE, text.getvalue().encode())


def taken_items(lists: Sequence[AnnotationList], scheme: LabelScheme) -> dict[str, list[Item]]:
    """List name → its real images, each once in the first list that names it, labelled as pairs.

    Raises:
        UserError: two lists have one name, or none names a real image.
    """
    seen: set[str] = set()
    taken: dict[str, list[Item]] = {}
    for one in lists:
        name = one.list_uri.rsplit("/", 1)[-1]
        if name in taken:
            raise UserError(f"two annotation lists would be written as lists/{name}; rename one")
        taken[name] = []
        for item in one.items:
            given = dict(zip(one.scheme.columns, item.labels, strict=False))
            identity = item_id(item.path)
            if given["origin"] == 0 and identity not in seen:
                seen.add(identity)
                given["generator"] = 0  # its own scheme may have another code for real
                labels = tuple(given.get(column, 0) for column in scheme.columns)
                taken[name].append(Item(identity, item.path, labels))
    if not seen:
        raise UserError("the annotation lists name no real image (origin 0)")
    return taken
