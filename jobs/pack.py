"""Pack images into a tile store: `python jobs/pack.py --help`."""

import rayapp.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.pack import PackSettings, pack
from rayapp.runs import command
from rayapp.settings import EXIT_DONE, EXIT_MISSES, run_job


def job(settings: PackSettings) -> int:
    """Pack, then say what was made."""
    run = pack(settings)
    run.tell({"index": "tiles.parquet"}, command("train", config="NAME", root=run.store.uri()))
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


if __name__ == "__main__":
    run_job(PackSettings, job)
