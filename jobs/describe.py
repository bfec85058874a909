"""Say what a detector's verdicts rest on.

imaginet describe DETECTOR
"""

import sys

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.describe.settings import DescribeSettings


def job(settings: DescribeSettings) -> None:
    """Print the detector's card."""
    from rayapp.jobs.describe import card

    print(card(settings.detector))


if __name__ == "__main__":
    given = sys.argv[1:]
    if given and not given[0].startswith("-"):  # the detector may stand alone
        given.insert(0, "--detector")
    run_job(DescribeSettings, job, given, work="rayapp.jobs.describe")
