"""Pack images into lossless tiles, from which training reads crops fast.

imaginet pack --annotations LIST… --root URI --output DIR
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.pack.settings import PackSettings


def job(settings: PackSettings) -> int:
    """Pack, then say what was made."""
    from rayapp.jobs.pack import pack
    from rayapp.run.commands import command

    run = pack(settings)
    given = {"scheme": settings.scheme, "annotations": settings.annotations}
    then = command("train", config="NAME", **given, root=run.store.uri(), output="DIR")
    run.print_summary({"index": "tiles.parquet"}, then)
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


if __name__ == "__main__":
    run_job(PackSettings, job, work="rayapp.jobs.pack")
