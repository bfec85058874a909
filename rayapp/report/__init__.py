"""The report: one self-contained page of what detectors can do, and on what grounds."""

from rayapp.report.write import REPORT_FILE, ReportSettings, report

__all__ = ["REPORT_FILE", "ReportSettings", "report"]
