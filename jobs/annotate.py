"""Make annotation lists of own images, from their folders or a table.

imaginet annotate --input DIR --output DIR [--layout 'real,synthetic/GENERATOR']
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.annotate.settings import AnnotateSettings
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES


def job(settings: AnnotateSettings) -> int:
    """Annotate, then say how many images went where, and name those that could not."""
    from rayapp.annotate.split import SPLITS
    from rayapp.annotate.written_lists import MANIFEST, SCHEME
    from rayapp.jobs.annotate import annotate, describe_reading, next_command

    run = annotate(settings)
    run.print_summary({"lists": "lists", "scheme": SCHEME, "manifest": MANIFEST}, next_command(run))
    describe_reading(run, settings)
    found = run.results["by_generator"]
    width = max(len(row["generator"]) for row in found)
    print(" " * width, *(f"{name:>11}" for name in SPLITS))
    for row in found:
        print(row["generator"].ljust(width), *(f"{row[name]:>11,}" for name in SPLITS))
    _print_named(
        "leak of the published split", run.results.get("leaks", []), run.counts.get("leaks", 0)
    )
    _print_named("not annotated", run.results["misses"], run.counts["failed"])
    return EXIT_MISSES if run.counts["failed"] else EXIT_DONE


def _print_named(what: str, lines: list[str], count: int) -> None:
    for line in lines:
        print(f"{what}: {line}")
    if count > len(lines):
        print(f"{what}: {count:,} in all")


if __name__ == "__main__":
    run_job(AnnotateSettings, job, work="rayapp.jobs.annotate")
