"""What images are, for the guard: sha256 of their bytes and a hash of their look."""

from collections.abc import Iterable, Sequence

import pyarrow as pa

from rayapp import cluster, manifest, rows, runs
from rayapp.images import decode, perceptual_hash, sha256
from rayapp.labels import item_id
from rayapp.parts import drop_parts
from rayapp.settings import JobSettings, Settings
from rayapp.storage import Store, open_store

FILE = "identities.parquet"
_SCHEMA = manifest.schema(extra={"perceptual_hash": pa.string()})
_BATCH = 32


class HashRows:
    """Row work: bytes and look of each image."""

    def __init__(self, root: Store) -> None:
        self.root = root

    def setup(self) -> None:
        """Nothing to load."""

    def batch(self, batch: Sequence[rows.Row]) -> list[rows.Row]:
        """sha256 and perceptual hash a row, or why there are none."""
        return rows.each(batch, self._one)

    def _one(self, row: rows.Row) -> rows.Row:
        data = self.root.get(row["path"])
        digest = sha256(data)
        return {"sha256": digest, "perceptual_hash": perceptual_hash(decode(data).pixels_HWC)}


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
    name = runs.digest(root.encode(), *(path.encode() for path in wanted))
    run = runs.start(
        "identify", Settings(), {"images": name}, output=f"{folder}/{name[:16]}", overwrite=True
    )
    if run.state != "done":
        listed = pa.table({"id": pa.array(wanted), "path": pa.array(wanted)})
        with cluster.session(common):
            table = rows.map_rows(
                listed, HashRows(open_store(root)), _SCHEMA, run=run, batch_size=_BATCH,
                wait_s=common.wait_s,
            ).table()  # fmt: skip
        manifest.write_table(run.store, FILE, table)
        counts = {"in": table.num_rows, "failed": manifest.count_failed(table)}
        run.finish(counts, made=(FILE,))
        drop_parts(run.store)
    return run.store.uri(FILE)
