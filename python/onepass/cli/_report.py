"""``onepass report``: a page about a run."""

from __future__ import annotations

from onepass.cli._arguments import Arguments
from onepass.cli._output import fail, say


def report(options: Arguments) -> int:
    """Write the page; returns the exit status."""
    from onepass.runs import write_report

    chosen = vars(options)
    try:
        path = write_report(options.run, chosen.get("out"))
    except (ValueError, TypeError, FileNotFoundError, MemoryError) as error:
        return fail(error, 2)
    except OSError as error:
        return fail(error, 1)
    say(f"the report is in {path}", wrapped=False)
    return 0
