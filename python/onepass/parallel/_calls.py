"""The calls that ranks make together, and which ranks have failed after how many."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from copy import copy
from typing import NamedTuple

from onepass.parallel._errors import OtherRankError

_PAUSE = 0.05  # seconds between two looks at who has failed


class State(NamedTuple):
    """What a rank lets the others know of its calls.

    Attributes:
        mark: one more than the calls that it had made when it failed last; 0: it has not.
        settled: the last mark that all ranks had.
        broken_by: one more than the rank whose failure has left them at different calls, as far as
            this one knows; 0: none has. Others may learn of it before they see that rank's mark.
    """

    mark: int = 0
    settled: int = 0
    broken_by: int = 0


class Calls(ABC):
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

    @abstractmethod
    def _states(self) -> list[State]:
        """Those of all ranks."""

    @abstractmethod
    def _reason(self, rank: int) -> str:
        """Why that rank has failed."""

    @abstractmethod
    def _publish(self, state: State, why: str = "") -> None:
        """Let all ranks know the state of this one; without a reason, that of before stays."""

    @abstractmethod
    def _ahead(self) -> list[int]:
        """The ranks that have gone on since this one has failed, unless they had failed as well."""

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
        if any(s.broken_by or settled < s.mark <= self._made for s in states):
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
            others = any(s.broken_by or settled < s.mark != mark for s in states)
            if others or any(states[rank].mark <= settled for rank in ahead):
                self._break(states)
            time.sleep(_PAUSE)

    def _break(self, states: list[State]) -> None:
        failed = [(s.mark, rank) for rank, s in enumerate(states) if s.mark > self._own.settled]
        rank = min(failed)[1] if failed else max(s.broken_by for s in states) - 1
        what = f"rank {rank} of {self.size} failed in a fit: {self._reason(rank)}"
        text = (
            f"{self._owner}: {what}; the ranks are no longer at the same calls, expected the end "
            "of all programs: let no rank catch an exception that others may not have"
        )
        is_own = rank == self.rank
        self._broken = RuntimeError(text) if is_own else OtherRankError(text, what)
        self._own = self._own._replace(broken_by=rank + 1)
        self._publish(self._own)
        raise self._broken

    def knows_of_failure(self) -> bool:
        """Whether a rank has failed: this one, or another one that it has waited for."""
        return self._broken is not None or self._own.mark > self._own.settled
