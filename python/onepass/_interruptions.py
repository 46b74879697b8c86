"""Work that Ctrl-C, or an exception from another signal handler, must not leave half done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

TIMES = 3  # that a piece of work is begun, before an interruption is let through


def to_the_end(work: Callable[[], Any]) -> None:
    """Do ``work``; where an interruption ends it, begin it again, and raise that afterwards.

    Its own errors are raised at once: they would come again.

    Args:
        work: leads to the same state however often it was begun before.
    """
    cut: BaseException | None = None
    for left in reversed(range(TIMES)):
        try:
            work()
            break
        except BaseException as error:
            if not left or not interrupts(error):
                raise
            cut = cut or error
    if cut is not None:
        raise cut


def interrupts(error: BaseException | None) -> bool:
    """Whether it came from outside of the work: Ctrl-C, or from the handler of a signal."""
    while error is not None:
        if not isinstance(error, Exception) or _from_handler(error.__traceback__):
            return True
        error = error.__context__  # such as that of an error which was given other words
    return False


def _from_handler(trace: TracebackType | None) -> bool:
    """Whether a function in the traceback was given the frame that it interrupted.

    Handlers are, whatever they are called and whether or not they are installed any more.
    """
    while trace is not None:
        frame = trace.tb_frame
        caller = frame.f_back
        for value in frame.f_locals.values() if caller is not None else ():
            if value is caller or (type(value) is tuple and any(v is caller for v in value)):
                return True
        trace = trace.tb_next
    return False


@contextmanager
def ending_in(work: Callable[[], Any]) -> Iterator[None]:
    """The block ends in ``work``, as `to_the_end` does it, whatever cuts the block or its end."""
    begun = False

    def last() -> None:
        nonlocal begun
        begun = True
        work()

    try:
        try:
            yield
        finally:
            to_the_end(last)
    finally:
        if not begun:  # an interruption came before it had begun
            work()


def end_by_status() -> None:
    """Make ``python -m`` end with the exit status of a command that Ctrl-C has interrupted.

    Where that came inside exec(), by which libraries make their classes, Python notes it, and would
    end by the signal whatever the status. The next exec() clears the note.
    """
    exec("")
