"""Ctrl-C, and what the handlers of other signals raise: whether one cut something, and work that
none may leave half done."""

from __future__ import annotations

import dis
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, TracebackType
from typing import Any

TIMES = 3  # that a piece of work is begun, before an interruption is let through
_RAISES = {dis.opmap[name] for name in ("RAISE_VARARGS", "RERAISE") if name in dis.opmap}


def to_the_end(work: Callable[[], Any]) -> None:
    """Do ``work``; where an interruption cuts it, begin it again, and raise that afterwards.

    Args:
        work: leads to the same state however often it was begun before.
    """
    cut: BaseException | None = None
    for left in reversed(range(TIMES)):
        try:
            work()
            break
        except BaseException as error:
            if not left or (isinstance(error, Exception) and not by_signal(error)):
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


def by_signal(error: BaseException) -> bool:
    """Whether the handler of a signal raised ``error``, at any place of the code that it came from.

    False where that code raised it by itself.
    """
    handlers = _handlers()
    last = error.__traceback__
    while last is not None:
        if last.tb_frame.f_code in handlers:
            return True
        if last.tb_next is None:
            break
        last = last.tb_next
    # The handler that Python has for Ctrl-C leaves no frame.
    return isinstance(error, KeyboardInterrupt) and last is not None and not _raises(last)


def _raises(place: TracebackType) -> bool:
    """Whether there is a ``raise`` statement."""
    return place.tb_frame.f_code.co_code[place.tb_lasti] in _RAISES


def _handlers() -> set[CodeType]:
    """The code of the handlers that are set now."""
    found = set()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler) and not isinstance(handler, signal.Handlers):
            function = getattr(handler, "func", handler)  # of functools.partial
            function = getattr(function, "__func__", function)
            code = getattr(function, "__code__", None)
            code = code or getattr(vars(type(function)).get("__call__"), "__code__", None)
            if code is not None:
                found.add(code)
    return found
