"""The guard of calibrate and fuse: which images they must stay off, and what those images are.

By their paths alone at first, before any image is read; then by sha256 and a hash of their look.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from rayapp.calibrate.hash_rows import HashRows
from rayapp.cluster.map_rows import map_rows
from rayapp.cluster.session import on_demand
from rayapp.config.errors import UserError
from rayapp.config.settings import JobSettings, Settings
from rayapp.dataset import manifest
from rayapp.dataset.labels import Item, item_id
from rayapp.dataset.leakage import identities, leaks, refuse, training_lists
from rayapp.run import record
from rayapp.run.resume import nothing_left
from rayapp.run.row_parts import drop_parts
from rayapp.storage.uris import open_store, split_uri

FILE = "identities.parquet"
_SCHEMA = manifest.schema(extra={"perceptual_hash": pa.string()})
_BATCH = 32


@dataclass(frozen=True)
class Guarded:
    """Images to stay off: of a list, under a root (None: known by their paths only)."""

    list_uri: str
    items: list[Item]
    root: str | None
    trains: str = ""  # the detector that was trained on them

    @property
    def file(self) -> str:
        """The name of their list."""
        return self.list_uri.rpartition("/")[2]

    @property
    def what(self) -> str:
        """What messages call them."""
        return f"{self.file}, on which {self.trains} was trained" if self.trains else self.file


def trained_on(provenance: Mapping[str, Any], detector: str = "the detector") -> Iterator[Guarded]:
    """The lists that a detector was trained on, as far as it says so and they can be read."""
    root = provenance.get("settings", {}).get("root")
    there = root is not None and next(iter(open_store(root).list()), None) is not None
    for uri, items in training_lists(provenance):
        if isinstance(items, UserError):
            print(f"not guarded against: {items}")
        else:
            yield Guarded(uri, items, root if there else None, detector)


def refuse_paths(
    items: Sequence[Item], others: Sequence[Guarded], root: str | None, what_to_do: str
) -> None:
    """What the paths alone say, before an image is read; under one root they are the images.

    Raises:
        UserError: an item is among the others.
    """
    own = identities(items, [])
    there = [one for one in others if one.root == root]
    refuse([(one.what, leaks(own, identities(one.items, []))) for one in there], own, what_to_do)


def written(one: Guarded, folder: str, looks: bool, common: JobSettings) -> str:
    """URI of a manifest of the images, under their list's name; with hashes if `looks`."""
    known = []
    if looks and one.root:
        uri = identify([item.path for item in one.items], one.root, f"{folder}/identities", common)
        known.append(read(uri))
    store = open_store(folder)
    key = f"against/{record.digest(one.list_uri.encode())[:8]}/{one.file}.parquet"
    table = identities(one.items, known)
    if store.stat(key) is None or not manifest.read_table(store, key).equals(table):
        manifest.write_table(store, key, table)
    return store.uri(key)


def read(uri: str) -> pa.Table:
    """A manifest that `written` or `identify` made."""
    return manifest.read_table(*split_uri(uri))


def identify(paths: Iterable[str], root: str, folder: str, common: JobSettings) -> str:
    """Hash the images once; the URI of a manifest of path, sha256 and perceptual_hash.

    An image that can't be read has no hash: it is known by its path alone.

    Args:
        paths: annotated paths under `root`.
        root: where they start.
        folder: where manifests are kept, each in a folder named by its images.
        common: where the job runs.
    """
    root = root.rstrip("/")
    wanted = sorted({item_id(path) for path in paths})
    name = record.digest(root.encode(), *(path.encode() for path in wanted))
    run = record.start(
        "identify", Settings(), {"images": name}, output=f"{folder}/{name[:16]}", overwrite=True
    )
    if not nothing_left(run):
        listed = pa.table({"id": pa.array(wanted), "path": pa.array(wanted)})
        with on_demand(common):
            table = map_rows(
                listed,
                HashRows(open_store(root)),
                _SCHEMA,
                run=run,
                batch_size=_BATCH,
                wait_s=common.wait_s,
            ).table()
        manifest.write_table(run.store, FILE, table)
        counts = {"in": table.num_rows, "failed": manifest.count_failed(table)}
        run.finish(counts, made=(FILE,))
        drop_parts(run.store)
    return run.store.uri(FILE)
