"""Whose line a warning names: the one that called onepass."""

from __future__ import annotations

import sys

OWN = ("onepass", "contextlib", "functools")  # of contextlib: a block of ours is entered


def stacklevel() -> int:
    """For ``warnings.warn`` in the function that calls this: the first frame outside onepass."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _module(frame.f_globals) in OWN:
        level, frame = level + 1, frame.f_back
    return level


def _module(names: dict[str, object]) -> str:
    return str(names.get("__name__", "")).partition(".")[0]
