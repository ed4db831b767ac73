"""The report of an export: report.md with its pictures, and report.json, in a folder beside the bundle.

It is written whether the bundle passes or not: where none was written it says why.
"""

from .findings import Findings
from .folder import check_report_folder, report_folder_of, write_report
from .summary import summary

__all__ = ["Findings", "check_report_folder", "report_folder_of", "summary", "write_report"]
