"""``onepass report``: a page about a run."""

from __future__ import annotations

from onepass.cli._arguments import Arguments
from onepass.cli._output import fail, say


def report(options: Arguments) -> int:
    """Write the page; returns the exit status."""
    from onepass.runs._report import opened, written

    try:
        past, out = opened(options.run, vars(options).get("out"), "report: '--out'")
    except (ValueError, OSError, MemoryError) as error:
        return fail(error, 2)
    try:
        say(f"the report is in {written(past, out)}", wrapped=False)
    except OSError as error:
        return fail(error, 1)
    return 0
