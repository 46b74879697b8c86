"""The formulas of the docstrings, which stand in `onepass.ops`."""

from __future__ import annotations

from onepass import ops


def formula(op: str) -> str:
    """The first line of what is said of ``onepass.ops.<op>``."""
    return (getattr(ops, op).__doc__ or "").partition("\n")[0]
