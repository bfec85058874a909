"""Make a folder hold exactly what the annotation lists name.

imaginet prune --root URI --annotations LIST… [--apply] [--trash URI]
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.prune.settings import PruneSettings


def job(settings: PruneSettings) -> int:
    """Decide and, where asked, apply; then say what was done, and name what could not be."""
    from rayapp.jobs.prune import DECISIONS_FILE, REMOVED_FILE, prune

    run = prune(settings)
    applied = run.results["applied"]
    where = {"decisions": DECISIONS_FILE} | ({"removed files": REMOVED_FILE} if applied else {})
    waiting = run.counts["remove"] and not applied
    run.print_summary(where, "the same command with --apply removes the files" if waiting else "")
    for line in run.results.get("misses", []):
        print(f"not removed: {line}")
    missing = run.counts["missing"] and not settings.allow_missing
    return EXIT_MISSES if missing or run.counts.get("failed") else EXIT_DONE


if __name__ == "__main__":
    run_job(PruneSettings, job, work="rayapp.jobs.prune")
