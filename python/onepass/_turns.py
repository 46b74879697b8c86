"""Raises an error if two threads train one Parameter at once, even in their own loops.

A step must not overlap another thread's step or backward. If another thread has already stepped
with, or zeroed, some of a thread's gradients, that thread must not step with the rest. A thread
may step with gradients that other threads have finished.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import get_ident
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

F = TypeVar("F", bound=Callable[..., Any])
Parameter: TypeAlias = Any  # that of _parameter.py, which imports this file
CURE = (
    "expected one thread at a time; put a lock around each whole iteration, or give each thread a "
    "copy of the model (copy.deepcopy)"
)


class Writers:
    """Threads that have added to a parameter's gradient, and when, on the clock of all of them.

    Attributes:
        present: of those whose additions are in it, when each began.
        lost: of those whose additions another one stepped with, or zeroed, with no new one since.
    """

    __slots__ = ("lost", "present")

    def __init__(self) -> None:
        self.present: dict[int, int] = {}
        self.lost: dict[int, int] = {}

    def take(self, there: bool, me: int) -> None:
        """``me`` has stepped with or zeroed the gradient, if one was ``there``."""
        if there:
            now = next(_clock)
            self.lost.update((thread, now) for thread in [*self.present] if thread != me)
        self.present = {}


class _Turns:
    """What every thread looks at; threads by their idents.

    Attributes:
        stepping: the optimizer that each thread is in a step of.
        going_back: the outermost module that each thread is in the backward of.
        several: whether more than one thread has gone backward so far: else none has lost anything.
    """

    __slots__ = ("_first", "going_back", "several", "stepping")

    def __init__(self) -> None:
        self.stepping: dict[int, Any] = {}
        self.going_back: dict[int, Any] = {}
        self.several = False
        self._first = 0

    def note_writer(self, parameter: Parameter) -> None:
        """This thread adds to the gradient, which another one did last."""
        me, writers = get_ident(), parameter._writers or Writers()
        if parameter.grad is None:  # whose step takes it is open again
            writers.present, writers.lost = {}, {}
        writers.present.setdefault(me, next(_clock))
        writers.lost.pop(me, None)
        parameter._writer, parameter._writers = me, writers
        self._first = self._first or me
        self.several = self.several or self._first != me

    def note_zeroed(self, parameter: Parameter) -> None:
        """This thread begins anew with the gradient."""
        if (writers := parameter._writers) is not None:
            me = get_ident()
            writers.take(parameter.grad is not None, me)
            writers.lost.pop(me, None)
            parameter._writer = 0

    def refuse_writing(self, parameter: Parameter, thread: int) -> None:
        """Refuse to add to a gradient while another thread is in a step of its parameter."""
        for other, optimizer in [*self.stepping.items()]:
            if other != thread and id(parameter) in _ids(optimizer):
                raise RuntimeError(
                    f"backward: another thread is in a step of {optimizer._name} over the "
                    f"{parameter!r}, {CURE}"
                )

    def refuse_steps(self, optimizer: Any) -> None:
        """Refuse a step over a parameter that another thread is in a step of."""
        me = get_ident()
        for other, stepped in [*self.stepping.items()]:
            shared = _ids(stepped) & _ids(optimizer) if other != me else ()
            for parameter in optimizer._parameters if shared else ():
                if id(parameter) in shared:
                    raise RuntimeError(
                        f"{optimizer._name}: another thread is in a step over the "
                        f"{_shown(parameter)} too, {CURE}"
                    )

    def refuse_taken(self, owner: str, parameters: Iterable[Parameter]) -> None:
        """Refuse a step beside a backward that has begun to add to one of its gradients, and one
        with the rest of a backward that another thread has taken in part."""
        me = get_ident()
        begun: list[int] = []  # when this thread's additions did that are there
        lost: list[tuple[int, Parameter]] = []
        for parameter in parameters:
            writers = parameter._writers
            if writers is None or not parameter.requires_grad:
                continue
            if me in writers.lost:
                lost.append((writers.lost[me], parameter))
            if parameter.grad is None:
                continue
            for thread, when in [*writers.present.items()]:
                if thread == me:
                    begun.append(when)
                elif self._adds(thread, parameter):
                    raise RuntimeError(
                        f"{owner}: another thread is in a backward that adds to the gradient of "
                        f"the {parameter!r}, {CURE}"
                    )
        for when, parameter in lost:
            if begun and min(begun) < when:
                raise RuntimeError(
                    f"{owner}: another thread has stepped with, or zeroed, the gradient that this "
                    f"thread's backward gave the {parameter!r}, {CURE}; zero_grad() begins anew"
                )

    def _adds(self, thread: int, parameter: Parameter) -> bool:
        """Whether a thread is in the backward of a module that has the parameter."""
        module = self.going_back.get(thread)
        return module is not None and any(p is parameter for p in module.parameters())

    def take(self, parameters: Iterable[Parameter]) -> None:
        """A step has taken the gradients of these parameters."""
        me = get_ident()
        for parameter in parameters:
            if (writers := parameter._writers) is not None and parameter.requires_grad:
                writers.take(parameter.grad is not None, me)
                parameter._writer = 0


_clock = count(1)
_known: WeakKeyDictionary[Any, tuple[Any, frozenset[int]]] = WeakKeyDictionary()
turns = _Turns()
_going_back = turns.going_back


def noted(backward: F) -> F:
    """A module's ``backward`` that is in ``turns.going_back`` while it runs."""

    @functools.wraps(backward)
    def note(module: Any, *args: Any, **kwargs: Any) -> Any:
        me = get_ident()
        if me in _going_back:  # inside that of another module
            return backward(module, *args, **kwargs)
        _going_back[me] = module
        try:
            return backward(module, *args, **kwargs)
        finally:
            _going_back.pop(me, None)

    return note  # type: ignore[return-value]


@contextmanager
def in_step(optimizer: Any) -> Iterator[None]:
    """Around a step."""
    me = get_ident()
    outer = turns.stepping.get(me)
    turns.stepping[me] = optimizer
    try:
        turns.refuse_steps(optimizer)
        yield
    finally:
        if outer is None:
            turns.stepping.pop(me, None)
        else:  # this one was in a closure of that one
            turns.stepping[me] = outer


def _ids(optimizer: Any) -> frozenset[int]:
    """The ids of the optimizer's parameters."""
    lists, ids = _known.get(optimizer, (None, frozenset()))
    if lists is not optimizer._lists:  # another tuple whenever there are others
        lists, ids = optimizer._lists, frozenset(map(id, optimizer._parameters))
        _known[optimizer] = lists, ids
    return ids


def _shown(parameter: Any) -> str:
    own = hasattr(parameter, "requires_grad")
    return repr(parameter) if own else f"array of shape {tuple(parameter.shape)}"
