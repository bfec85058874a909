"""Pack images into a tile store: `python jobs/pack.py --help`."""

from rayapp.config.settings import EXIT_DONE, EXIT_MISSES, run_job
from rayapp.jobs.pack import pack
from rayapp.pack.settings import PackSettings
from rayapp.run.record import command


def job(settings: PackSettings) -> int:
    """Pack, then say what was made."""
    run = pack(settings)
    run.print_summary(
        {"index": "tiles.parquet"}, command("train", config="NAME", root=run.store.uri())
    )
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


if __name__ == "__main__":
    run_job(PackSettings, job)
