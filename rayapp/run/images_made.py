"""Whether the images that a run made are still there."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from rayapp.config.errors import JobFailed
from rayapp.dataset import manifest
from rayapp.run.record import Run
from rayapp.storage.store import Store


def still_there(store: Store) -> Callable[[pa.Table], pa.Table]:
    """Gives back the finished rows whose images are all there at their recorded size.

    A row names its images in a column `outputs`, with `path` and `bytes`. They arrive whole or not
    at all, so a file of the right name and size is the one written; bytes changed afterwards are
    for the manifest's sha256 to tell.
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


def check_still_there(run: Run, key: str) -> None:
    """A finished run whose images were removed since is not done.

    Args:
        run: the run.
        key: its manifest.

    Raises:
        JobFailed: images are gone.
    """
    whole = manifest.read_table(run.store, key)
    made = whole.filter(pc.equal(whole["status"], manifest.STATUS_OK))["path"]
    there = pa.array((stat.key for stat in run.store.list()), pa.string())
    gone = made.filter(pc.invert(pc.is_in(made, value_set=there)))
    if len(gone):
        raise JobFailed(
            f"{run.store.root}: {len(gone):,} images of the manifest are gone, first {gone[0]}; "
            "--overwrite makes the set anew"
        )
