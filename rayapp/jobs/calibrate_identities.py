"""What images are, for the guard: sha256 of their bytes and a hash of their look."""

from collections.abc import Iterable

import pyarrow as pa

from rayapp.calibrate.hash_rows import HashRows
from rayapp.cluster.map_rows import map_rows
from rayapp.cluster.session import on_demand
from rayapp.config.settings import JobSettings, Settings
from rayapp.dataset import manifest
from rayapp.dataset.labels import item_id
from rayapp.run import record
from rayapp.run.resume import nothing_left
from rayapp.run.row_parts import drop_parts
from rayapp.storage.uris import open_store

FILE = "identities.parquet"
_SCHEMA = manifest.schema(extra={"perceptual_hash": pa.string()})
_BATCH = 32


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
