"""Work that Ctrl-C, or an exception from another signal handler, must not leave half done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

TIMES = 3  # that a piece of work is begun, before an interruption is let through


def to_the_end(work: Callable[[], Any]) -> None:
    """Do ``work``; where an exception ends it, begin it again, and raise that afterwards.

    The handler of a signal may raise any exception, so all are taken for interruptions; what the
    work itself refuses it refuses again.

    Args:
        work: leads to the same state however often it was begun before.
    """
    cut: BaseException | None = None
    for left in reversed(range(TIMES)):
        try:
            work()
            break
        except BaseException as error:
            if not left:
                raise
            cut = cut or error
    if cut is not None:
        raise cut


@contextmanager
def ending_in(work: Callable[[], Any]) -> Iterator[None]:
    """The block ends in ``work``, as `to_the_end` does it, whatever cuts the block or its end."""
    done = False

    def last() -> None:
        nonlocal done
        work()
        done = True

    try:
        try:
            yield
        finally:
            to_the_end(last)
    finally:
        if not done:  # an interruption came before it had begun
            work()
