"""Fetch a published detector.

imaginet weights imaginet
"""

import sys

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.config.settings import EXIT_DONE
from rayapp.weights.settings import WeightsSettings


def job(settings: WeightsSettings) -> int:
    """Fetch and convert once, then say where the detector is and on what terms."""
    from rayapp.jobs.weights import print_summary, weights
    from rayapp.run.commands import command

    run = weights(settings)
    print_summary(run)
    print(f"next: {command('predict', detector=run.store.root, input='FOLDER', output='DIR')}")
    return EXIT_DONE


if __name__ == "__main__":
    given = sys.argv[1:]
    if given and not given[0].startswith("-"):  # the name may stand alone
        given.insert(0, "--name")
    run_job(WeightsSettings, job, given, work="rayapp.jobs.weights")
