"""Pack images into lossless tiles, from which training reads crops fast.

imaginet pack --annotations LIST… --root URI --output DIR
"""

import rayapp.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.pack import PackSettings, pack
from rayapp.runs import command
from rayapp.settings import EXIT_DONE, EXIT_MISSES, run_job


def job(settings: PackSettings) -> int:
    """Pack, then say what was made."""
    run = pack(settings)
    given = {"scheme": settings.scheme, "annotations": settings.annotations}
    then = command("train", config="NAME", **given, root=run.store.uri(), output="DIR")
    run.tell({"index": "tiles.parquet"}, then)
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


if __name__ == "__main__":
    run_job(PackSettings, job)
