"""Say what image files declare of their origin.

imaginet declared PATH…
"""

import sys

import rayapp.config.begin  # noqa: F401 - before all else
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE, EXIT_MISSES
from rayapp.declared.settings import DeclaredSettings


def job(settings: DeclaredSettings) -> int:
    """Print what each file declares."""
    from rayapp.jobs.declared import declared

    return EXIT_MISSES if declared(settings).num_failed else EXIT_DONE


if __name__ == "__main__":
    given = sys.argv[1:]
    if given and not given[0].startswith("-"):  # the paths may stand alone
        given.insert(0, "--input")
    run_job(DeclaredSettings, job, given, work="rayapp.jobs.declared")
