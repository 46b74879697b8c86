"""Runs of ``onepass train``: what they leave, and predicting with it."""

from onepass.runs._saved_run import SavedRun, load_run

__all__ = ["SavedRun", "load_run"]
