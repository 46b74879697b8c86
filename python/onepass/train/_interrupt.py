"""Ctrl-C sets a flag, so that the step in progress ends first; what handlers raise is counted."""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """While entered, the first SIGINT sets ``requested``; a second one interrupts at once.

    `answer` then does what the program does at a SIGINT: it calls the handler that was there, which
    raises KeyboardInterrupt unless the program has set another one. Outside the main thread, and
    where SIGINT is ignored, this does nothing. Where a hook of one fit begins another fit, a SIGINT
    is a request to both.

    Attributes:
        requested: whether there is a SIGINT to answer.
        cuts: how often the handler of a signal has raised: it may have cut anything in two.
    """

    def __init__(self) -> None:
        self.requested = self._answered = False
        self.cuts = 0
        self._raised: KeyboardInterrupt | None = None
        self._watched: dict[int, _Watched] = {}
        self._own: Callable[[int, FrameType | None], Any] | None = None
        self._before: Callable[[int, FrameType | None], Any] = signal.default_int_handler

    def __enter__(self) -> Interrupt:
        self.requested = self._answered = False
        self._raised = None
        own = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(own):
            signal.signal(signal.SIGINT, self._handle)
            self._own = self._before = own
            _, *outer = self._fits()
            self.requested = any(fit.requested and not fit._answered for fit in outer)
        self.watch()
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
        for number, watched in self._watched.items():
            if signal.getsignal(number) is watched:
                signal.signal(number, watched.handler)
        self._watched = {}
        if self.requested and kind is None:
            self.answer()
        self._own = None

    def watch(self) -> None:
        """Count from now on what the handlers raise that the program has set."""
        if threading.current_thread() is not threading.main_thread():
            return  # where no handler is called
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            known = isinstance(handler, signal.Handlers) or handler == self._handle
            if callable(handler) and not known and handler is not self._watched.get(number):
                self._watched[number] = watched = _Watched(self, handler)
                signal.signal(number, watched)

    def note(self, raised: KeyboardInterrupt) -> None:
        """A hook was interrupted: `answer` raises that again."""
        self.requested, self._raised = True, self._raised or raised

    def answer(self) -> None:
        """Between two steps: call the program's handler, or raise what a hook raised."""
        self._answered = True
        if self._raised is not None:
            raise self._raised
        if self._own is None or self._handler is signal.default_int_handler:
            raise KeyboardInterrupt
        self._handler(signal.SIGINT, inspect.currentframe())
        for fit in self._fits():  # that handler lets the program go on
            fit.requested = fit._answered = False

    def _fits(self) -> Iterator[Interrupt]:
        """This one, and those of the fits in whose hooks it began."""
        yield self
        outer = getattr(self._own, "__self__", None)
        if isinstance(outer, Interrupt):
            yield from outer._fits()

    @property
    def _handler(self) -> Callable[[int, FrameType | None], Any]:
        """The program's, from before the first of those fits."""
        *_, first = self._fits()
        assert first._own is not None
        return first._own

    def _handle(self, number: int, frame: FrameType | None) -> Any:
        if self._own is None:  # a debugger in a hook, say, has put it back after the fit
            return self._before(number, frame)
        if self.requested:
            try:
                self._handler(number, frame)
            except BaseException:
                for fit in self._fits():
                    fit.cuts += 1
                raise
        for fit in self._fits():
            fit.requested = True
        return None

    def __reduce__(self) -> Any:
        return Interrupt, ()  # a copy made by a hook is in no fit


class _Watched:
    """The program's handler of a signal, which counts what it raises."""

    def __init__(self, fit: Interrupt, handler: Callable[[int, FrameType | None], Any]) -> None:
        self._fit, self.handler = fit, handler

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        try:
            return self.handler(number, frame)
        except BaseException:
            self._fit.cuts += 1
            raise
