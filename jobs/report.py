"""Write a report from evaluations.

imaginet report --evaluations DIR… --output DIR
"""

import rayapp.begin  # noqa: F401 - before all else: the rest takes seconds to import
from rayapp.report import REPORT_FILE, ReportSettings, report
from rayapp.settings import run_job


def job(settings: ReportSettings) -> None:
    """Write the page, then say where it is."""
    report(settings).tell({"page": REPORT_FILE})


if __name__ == "__main__":
    run_job(ReportSettings, job)
