"""Printing, for all commands."""

from __future__ import annotations

import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from onepass import _console

LEAST_WIDTH = 20
USUAL_WIDTH, MOST_WIDTH = 80, 120  # of tables


def say(text: str, *, wrapped: bool = True) -> None:
    """Print lines, wrapped where a terminal is narrow; a training does not end where nobody reads.

    Args:
        wrapped: break long lines; a table is left as it is.
    """
    if wrapped and _console.is_terminal(sys.stdout):
        width = max(LEAST_WIDTH, shutil.get_terminal_size().columns)
        lines = [
            textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
            for line in text.split("\n")
        ]
        text = "\n".join(lines)
    _console.write(text + "\n", sys.stdout)


def columns() -> int:
    """How wide a table may be."""
    if not _console.is_terminal(sys.stdout):
        return USUAL_WIDTH
    return max(LEAST_WIDTH, min(MOST_WIDTH, shutil.get_terminal_size().columns))


def note(text: object) -> None:
    """A line on standard error: standard output may hold predictions."""
    _console.write(f"note: {' '.join(str(text).split())}\n", sys.stderr)


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """A warning is one line, without the line of source that gives it."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", RuntimeWarning)
        warnings.showwarning = lambda message, *rest, **more: note(message)
        yield


def fail(error: object, status: int) -> int:
    """Print the error as one line; returns the exit status."""
    _console.write(f"onepass: {' '.join(str(error).split())}\n", sys.stderr)
    return status
