"""Write a report from evaluations.

imaginet report --evaluations DIR… --output DIR
"""

import rayapp.config.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.config.command_line import run_job
from rayapp.report.settings import ReportSettings


def job(settings: ReportSettings) -> None:
    """Write the page, then say where it is."""
    from rayapp.jobs.report import REPORT_FILE, report

    report(settings).print_summary({"page": REPORT_FILE})


if __name__ == "__main__":
    run_job(ReportSettings, job, work="rayapp.jobs.report")
