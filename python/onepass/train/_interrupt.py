"""Ctrl-C sets a flag, so that the step in progress ends first."""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """While entered, the first SIGINT sets ``requested``; a second one interrupts at once.

    `answer` then does what the program does at a SIGINT: it calls the handler that was there, which
    raises KeyboardInterrupt unless the program has set another one. Outside the main thread, and
    where SIGINT is ignored, this does nothing.

    Attributes:
        requested: whether there is a SIGINT to answer.
        again: whether a second one came, which may have interrupted anything.
    """

    def __init__(self) -> None:
        self.requested = self.again = False
        self._raised: KeyboardInterrupt | None = None
        self._own: Callable[[int, FrameType | None], Any] | None = None

    def __enter__(self) -> Interrupt:
        self.requested = self.again = False
        self._raised = None
        own = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(own):
            signal.signal(signal.SIGINT, self._handle)
            self._own = own
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        own = self._own
        if own is not None and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, own)  # unless a hook has set its own
        if self.requested and kind is None:
            self.answer()
        self._own = None

    def note(self, raised: KeyboardInterrupt) -> None:
        """A hook was interrupted: `answer` raises that again."""
        self.requested, self._raised = True, self._raised or raised

    def answer(self) -> None:
        """Between two steps: call the program's handler, or raise what a hook raised."""
        if self._raised is not None:
            raise self._raised
        if self._own is None:
            raise KeyboardInterrupt
        self._own(signal.SIGINT, inspect.currentframe())
        self.requested = False  # that handler lets the program go on

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and self._own is not None:
            self.again = True
            self._own(number, frame)
        self.requested = True

    def __reduce__(self) -> Any:
        return Interrupt, ()  # a copy made by a hook is in no fit
