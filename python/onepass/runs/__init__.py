"""Saved runs of ``onepass train``: predictions with them, and reports."""

from onepass.runs._report import write_report
from onepass.runs._saved_run import SavedRun, load_run

__all__ = ["SavedRun", "load_run", "write_report"]
