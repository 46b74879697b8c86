"""How this process ends, for the ranks that would wait for it.

An exception that nobody catches ends one process; the others would wait for it in their next
collective call for ever. So whoever talks to others is a `Member`, and the hooks of the interpreter
tell it. Nothing is hooked where somebody types: there an exception ends nothing.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from onepass.parallel._errors import OtherRankError, is_of_all, reason
from onepass.parallel._protocol import is_interactive

_GRACE = 2.0  # seconds that another rank has to end all with its own error
_TURN = 0.7  # more for each rank, up to 4: the first to end all says why, once
LONGEST = _GRACE + 5 * _TURN  # until all have looked whether another rank has said it
_PAUSE = 0.05  # seconds between two looks at who has left


class Member(Protocol):
    """One process among others, by one engine."""

    rank: int
    size: int

    def end(self, why: str) -> None:
        """Ends the others, or lets them know why they must end."""

    def is_announced(self) -> bool:
        """Whether another process has failed and told the reader of the output."""

    def leave(self) -> None:
        """This process does nothing more for the others."""

    def may_go(self) -> bool:
        """Whether nobody needs this process any more, after `leave`."""

    def close(self) -> None:
        """Gives back what the engine has lent; all members may go."""

    def speaks_in(self, thread: int) -> bool:
        """Whether that thread has taken part in a collective call."""


_members: list[Member] = []
_process = -1  # that the hooks were installed in: its forks are not ranks


def watch(member: Member) -> None:
    """From now on ``member`` learns how this process ends."""
    global _process
    if is_interactive():
        return
    if not _members:
        _process = os.getpid()
        _hook()
        atexit.register(_leave)
    _members.append(member)


def announce(what: str) -> None:
    """One line for whoever reads the output of all ranks.

    Args:
        what: has happened, and to which rank.
    """
    sys.stdout.flush()
    sys.stderr.write(f"onepass: {what}; all ranks end\n")
    sys.stderr.flush()


def _hook() -> None:
    shown, shown_of_thread = sys.excepthook, threading.excepthook

    def failed(kind: Any, error: Any, trace: Any) -> None:
        all_have_it = is_of_all(error) and os.getpid() == _process
        if all_have_it and _largest(_members).rank:
            return
        if isinstance(error, OtherRankError) and not error.is_announced:
            turn = min(_largest(_members).rank, 4)
            time.sleep(_GRACE + turn * _TURN)  # that rank may end this one, and say why
            error.is_announced = any(member.is_announced() for member in _members)
        shown(kind, error, trace)
        if not all_have_it:
            _end(error, kind, _members)

    def thread_failed(args: Any) -> None:
        shown_of_thread(args)
        ident: Any = getattr(args.thread, "ident", None)
        speakers = [m for m in _members if m.speaks_in(ident)]
        if speakers and not issubclass(args.exc_type, SystemExit):
            _end(args.exc_value, args.exc_type, speakers)

    sys.excepthook, threading.excepthook = failed, thread_failed


def _end(error: Any, kind: Any, members: list[Member]) -> None:
    if os.getpid() != _process:
        return
    why = reason(error, kind)
    with _uninterrupted():
        if not getattr(error, "is_announced", False):
            member = _largest(members)
            own = f"rank {member.rank} of {member.size} failed: {why}"
            announce(getattr(error, "what", "") or own)
        for member in members:
            member.end(why)


def _largest(members: list[Member]) -> Member:
    """That of all processes, where the program has made others of some of them."""
    return max(members, key=lambda member: member.size)


def _leave() -> None:
    if os.getpid() != _process:
        return
    with _uninterrupted():
        for member in _members:
            member.leave()
        waiting = _members
        while waiting := [member for member in waiting if not member.may_go()]:
            time.sleep(_PAUSE)
        for member in _members:
            member.close()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C, which all ranks get, leaves this one alone: cut here, it would let others wait for it
    for ever. Whoever still works ends by it, and then all do."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is None or threading.current_thread() is not threading.main_thread():
        yield  # no handler of Python's, or none that would run in this thread
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
