"""The page of a campaign: ``write_report`` writes it and its tables, ``report_files`` gives them unwritten."""

from alpot.report.page.document import report_files, write_report

__all__ = ["report_files", "write_report"]
