"""Say where a day's traffic differs from what the detector was calibrated on.

imaginet drift --counts DIR --against DETECTOR

Exit code 0: no drift found; 3: something differs, and the lines name what.
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.drift.settings import DriftSettings


def job(settings: DriftSettings) -> int:
    """Compare, then say what differs and what to do."""
    from rayapp.drift.verdict import NO_DRIFT
    from rayapp.jobs.drift import PAGE_FILE, drift

    run = drift(settings)
    found = run.results
    run.print_summary({"to look at": PAGE_FILE})
    print("\n".join(found["lines"]))
    print(f"{', '.join(found['days'])}: {found['outcome']}")
    if found["what_to_do"]:
        print(f"next: {found['what_to_do']}")
    return EXIT_DONE if found["outcome"] == NO_DRIFT else EXIT_MISSES


if __name__ == "__main__":
    run_job(DriftSettings, job, work="rayapp.jobs.drift")
