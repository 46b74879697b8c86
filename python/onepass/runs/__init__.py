"""Saved runs of ``onepass train``, and predictions with them."""

from onepass.runs._saved_run import SavedRun, load_run

__all__ = ["SavedRun", "load_run"]
