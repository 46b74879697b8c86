"""What a rank does for the others when it fails, or leaves while they wait for it.

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
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, NamedTuple, Protocol, TypeVar

from onepass.parallel._protocol import Communicator, fail, is_interactive

E = TypeVar("E", bound=BaseException)
_GRACE = 2.0  # seconds that another rank has to end all with its own error
_TURN = 0.7  # more for each rank, up to 4: the first to end all says why, once
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


class OtherRankError(RuntimeError):
    """Another rank has failed; the message says which and why.

    Args:
        what: has happened, for `announce`.
        is_announced: whether that rank has told the reader of the output.
    """

    def __init__(self, text: str, what: str = "", is_announced: bool = False) -> None:
        super().__init__(text)
        self.what, self.is_announced = what, is_announced


class State(NamedTuple):
    """What a rank lets the others know of its calls.

    Attributes:
        mark: one more than the calls that it had made when it failed last; 0: it has not.
        settled: the last mark that all ranks had.
        is_broken: 1 where ranks have failed at different calls, as far as it knows.
    """

    mark: int = 0
    settled: int = 0
    is_broken: int = 0


class Calls:
    """The calls that this process has made with others, and which ranks have failed after how many.

    A rank that fails in a fit, and whose program goes on, makes no call that the others still make.
    So it tells them after how many of its calls it has failed: who waits for it in a later one
    raises an error. Where all ranks have failed after the same call, as by one exception of a hook
    on all of them, they go on together.

    Args:
        owner: for messages.
    """

    rank: int
    size: int

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._made = 0
        self._own = State()
        self._broken: RuntimeError | None = None

    def _states(self) -> list[State]:
        """Those of all ranks."""
        raise NotImplementedError

    def _reason(self, rank: int) -> str:
        """Why that rank has failed."""
        raise NotImplementedError

    def _publish(self, state: State, why: str = "") -> None:
        """Let all ranks know the state of this one; without a reason, that of before stays."""
        raise NotImplementedError

    def _ahead(self) -> list[int]:
        """The ranks that have gone on since this one has failed, unless they had failed as well."""
        raise NotImplementedError

    def enter(self) -> None:
        """Before each call that others wait for.

        Raises:
            RuntimeError: a rank has failed since they all made the same calls.
        """
        if self._broken is not None:
            raise copy(self._broken)
        self._made += 1
        if self._own.mark > self._own.settled:
            self._settle()

    def fail(self, why: str) -> None:
        """This rank has failed in what others may still be in the middle of."""
        if self._broken is None:
            self._own = self._own._replace(mark=self._made + 1)
            self._publish(self._own, why)

    def look_out(self) -> None:
        """While this rank waits in a call.

        Raises:
            RuntimeError: another one has failed before it.
        """
        states, settled = self._states(), self._own.settled
        if any(s.is_broken or settled < s.mark <= self._made for s in states):
            self._break(states)

    def _settle(self) -> None:
        """Wait until all ranks have failed as this one has.

        Raises:
            RuntimeError: one has not.
        """
        mark, settled = self._own.mark, self._own.settled
        while True:
            ahead = self._ahead()  # first: who has failed says so before it goes on
            states = self._states()
            if all(s.mark == mark for s in states) or any(s.settled == mark for s in states):
                self._own = self._own._replace(settled=mark)
                self._publish(self._own)
                return
            others = any(s.is_broken or settled < s.mark != mark for s in states)
            if others or any(states[rank].mark <= settled for rank in ahead):
                self._break(states)
            time.sleep(_PAUSE)

    def _break(self, states: list[State]) -> None:
        failed = [(s.mark, rank) for rank, s in enumerate(states) if s.mark > self._own.settled]
        rank = min(failed)[1] if failed else [s.is_broken for s in states].index(1)
        what = f"rank {rank} of {self.size} failed in a fit: {self._reason(rank)}"
        text = (
            f"{self._owner}: {what}; the ranks are no longer at the same calls, expected the end "
            "of all programs: let no rank catch an exception that others may not have"
        )
        is_own = rank == self.rank
        self._broken = RuntimeError(text) if is_own else OtherRankError(text, what)
        self._own = self._own._replace(is_broken=1)
        self._publish(self._own)
        raise self._broken

    def knows_of_failure(self) -> bool:
        """Whether a rank has failed: this one, or another one that it has waited for."""
        return self._broken is not None or self._own.mark > self._own.settled


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


def of_all(error: E) -> E:
    """Mark an error that all ranks raise at the same place: nobody waits for them, and where
    nobody catches it rank 0 alone shows it."""
    error._is_of_all_ranks = True  # type: ignore[attr-defined]
    return error


@contextmanager
def told(comm: Communicator) -> Iterator[None]:
    """Around a fit: the others learn of an error that they may not have."""
    try:
        yield
    except BaseException as error:
        tell(comm, error)
        raise


def tell(comm: Communicator, error: BaseException) -> None:
    """Let the others know of an error of a fit, unless all ranks have it."""
    if not is_of_all(error) and not hasattr(error, "_is_told"):
        error._is_told = True  # type: ignore[attr-defined]
        fail(comm, reason(error))


def is_of_all(error: BaseException) -> bool:
    """Whether `of_all` has marked it."""
    return getattr(error, "_is_of_all_ranks", False)


def reason(error: BaseException, kind: Any = None) -> str:
    """Kind and text of an error, in one line."""
    shown = traceback.format_exception_only(kind or type(error), error)
    return "".join(shown).strip().partition("\n")[0]


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
