"""What a rank does for the others when it fails, or leaves while they wait for it.

An exception that nobody catches ends one process; the others would wait for it in their next
collective call for ever. So whoever talks to others is a `Member`, and the hooks of the interpreter
tell it. Nothing is hooked where somebody types: there an exception ends nothing.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import traceback
from typing import Any, Protocol, TypeVar

from onepass.parallel._protocol import is_interactive

E = TypeVar("E", bound=BaseException)
_PAUSE = 0.05  # seconds between two looks at who has left


class Member(Protocol):
    """One process among others, by one engine."""

    rank: int
    size: int

    def end(self, why: str) -> None:
        """Ends the others, or lets them know why they must end."""

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


def announce(member: Member, what: str) -> None:
    """One line for whoever reads the output of all ranks."""
    sys.stdout.flush()
    sys.stderr.write(f"onepass: rank {member.rank} of {member.size} {what}; all ranks end\n")
    sys.stderr.flush()


def of_all(error: E) -> E:
    """Mark an error that all ranks raise at the same place: nobody waits for them, and where
    nobody catches it rank 0 alone shows it."""
    error._is_of_all_ranks = True  # type: ignore[attr-defined]
    return error


def _hook() -> None:
    shown, shown_of_thread = sys.excepthook, threading.excepthook

    def failed(kind: Any, error: Any, trace: Any) -> None:
        is_of_all = getattr(error, "_is_of_all_ranks", False) and os.getpid() == _process
        if is_of_all and _largest(_members).rank:
            return
        shown(kind, error, trace)
        if not is_of_all:
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
    why = "".join(traceback.format_exception_only(kind, error)).strip().partition("\n")[0]
    announce(_largest(members), f"failed: {why}")
    for member in members:
        member.end(why)


def _largest(members: list[Member]) -> Member:
    """That of all processes, where the program has made others of some of them."""
    return max(members, key=lambda member: member.size)


def _leave() -> None:
    if os.getpid() != _process:
        return
    for member in _members:
        member.leave()
    waiting = _members
    while waiting := [member for member in waiting if not member.may_go()]:
        time.sleep(_PAUSE)
    for member in _members:
        member.close()
