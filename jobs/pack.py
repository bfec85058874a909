"""Pack images into lossless tiles, from which training reads crops fast.

imaginet pack --annotations LIST… --root URI --output DIR
imaginet pack --input IMAGES --output DIR
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.pack.settings import PackSettings


def job(settings: PackSettings) -> int:
    """Pack, then say what was made."""
    from rayapp.dataset.tiles import INDEX_FILE
    from rayapp.jobs.pack import pack
    from rayapp.pack.packed_parts import FOLDER
    from rayapp.run.commands import command

    run = pack(settings)
    lists = settings.annotations or ("LIST",)
    given = {"scheme": settings.scheme, "annotations": lists}
    then = command("train", config="NAME", **given, root=run.store.uri(), output="DIR")
    index = INDEX_FILE if run.store.stat(INDEX_FILE) else FOLDER  # of a large set
    run.print_summary({"index": index}, then)
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


if __name__ == "__main__":
    run_job(PackSettings, job, work="rayapp.jobs.pack")
