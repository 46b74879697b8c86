"""Runs one command: parses its options, prints errors as one line, sets the exit status."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from onepass.cli._arguments import Arguments, UsageError
from onepass.cli._output import fail, warnings_as_notes
from onepass.cli._parser import COMMANDS, parsed
from onepass.cli._train import refused

OF_RANKS = ("train", "info")  # that several processes may be started as; info is of each machine
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
        return fail(error, 2) if _is_of_one_process(arguments) else refused(error, arguments)
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except OSError as error:
        _forget_output()
        if isinstance(error, BrokenPipeError):  # the reader (head, less) has gone
            return READER_GONE
        return fail(f"cannot write the output: {error.strerror}", 1)


def _chosen(arguments: list[str]) -> int:
    if _is_of_one_process(arguments) and (status := _alone(arguments[0])):
        return status
    if arguments[:1] == ["bench"]:
        from onepass.cli._bench import bench

        return bench(arguments[1:])
    options = parsed(arguments)
    command: Callable[[Arguments], int] = options.command
    with warnings_as_notes():
        return command(options)


def _is_of_one_process(arguments: list[str]) -> bool:
    return bool(arguments) and arguments[0] in COMMANDS and arguments[0] not in OF_RANKS


def _alone(command: str) -> int:
    """The status for processes that were started together, which would all do the same."""
    from onepass.parallel._find import start_of

    start = start_of(os.environ)
    if start is None or start.size in ("", "1"):
        return 0
    if start.rank not in ("", "0"):
        return 2  # rank 0 tells it
    return fail(
        f"{command}: {start.variable} is {start.size}, as of processes that were started together, "
        f"expected one process: only train shares its work; start {command} without mpiexec or "
        f"torchrun, or unset {start.variable} where each is to do it",
        2,
    )


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
