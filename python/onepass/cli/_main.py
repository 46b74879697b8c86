"""Runs one command: parses its options, prints errors as one line, sets the exit status."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from onepass.cli._arguments import Arguments, UsageError
from onepass.cli._output import fail, warnings_as_notes
from onepass.cli._parser import parsed

READER_GONE = 128 + 13  # as the shell reports a program that SIGPIPE has ended


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console may lack a character
    try:
        try:
            return _chosen(arguments)
        finally:
            _flush()
    except UsageError as error:
        return fail(error, 2)
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except OSError as error:
        _forget_output()
        if isinstance(error, BrokenPipeError):  # the reader (head, less) has gone
            return READER_GONE
        return fail(f"cannot write the output: {error.strerror}", 1)


def _chosen(arguments: list[str]) -> int:
    if arguments[:1] == ["bench"]:
        from onepass.cli._bench import bench

        return bench(arguments[1:])
    options = parsed(arguments)
    command: Callable[[Arguments], int] = options.command
    with warnings_as_notes():
        return command(options)


def _flush() -> None:
    """At the end of a command, because an error at the end of Python could not be reported."""
    flush = getattr(sys.stdout, "flush", None)
    if flush is not None and not getattr(sys.stdout, "closed", False):
        flush()


def _forget_output() -> None:
    """Send the rest of the output nowhere, so that the end of Python does not fail on it."""
    with suppress(OSError, AttributeError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
