"""Two threads that train one Parameter at once get an error, in loops of their own too.

A step must not meet another thread's step or half-done backward. And a thread whose gradient
another one has stepped with, or zeroed, must not step as if it were still there. A thread may step
with what others have computed and no longer touch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident, local
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

Parameter: TypeAlias = Any  # that of _parameter.py, which imports this file
CURE = (
    "expected one thread at a time; put a lock around each whole iteration, or give each thread a "
    "copy of the model (copy.deepcopy)"
)


class _Thread:
    """A thread; unlike its ``ident`` never used again for another one."""

    __slots__ = ("ident",)

    def __init__(self) -> None:
        self.ident = get_ident()


class _Here(local):
    def __init__(self) -> None:
        self.thread = _Thread()


class Writers:
    """Of a parameter's gradient, where threads have taken turns in it.

    Attributes:
        last: the thread that added to it last, None where it was stepped or zeroed since.
        others: those that did before, to the same gradient.
        lost: threads whose gradient another one stepped with, or zeroed, with no new one since.
    """

    __slots__ = ("last", "lost", "others")

    def __init__(self) -> None:
        self.last: _Thread | None = None
        self.others: tuple[_Thread, ...] = ()
        self.lost: tuple[_Thread, ...] = ()

    def all(self) -> list[_Thread]:
        return [*self.others, *([] if self.last is None else [self.last])]

    def settle(self, there: bool, me: _Thread) -> None:
        """``me`` has stepped or zeroed the gradient, if one was ``there``."""
        if there:
            self.lost += tuple(t for t in self.all() if t is not me and t not in self.lost)
        self.last, self.others = None, ()


class _Turns:
    """What every thread looks at.

    Attributes:
        stepping: the optimizer that each thread is in a step of, by its ident.
        several: whether more than one thread has gone backward so far: else there is nothing to
            look for.
    """

    __slots__ = ("_first", "several", "stepping")

    def __init__(self) -> None:
        self.stepping: dict[int, Any] = {}
        self.several = False
        self._first: _Thread | None = None

    def note_writer(self, parameter: Parameter) -> None:
        """This thread adds to the gradient, which another one did last."""
        me, writers = _here.thread, parameter._writers or Writers()
        if parameter.grad is None:  # whose step takes it is open again
            writers.others = writers.lost = ()
        elif writers.last not in (None, me):
            writers.others += (writers.last,)
        writers.last = me
        writers.lost = tuple(t for t in writers.lost if t is not me)
        parameter._writer, parameter._writers = me.ident, writers
        self._first = self._first or me
        self.several = self.several or self._first is not me

    def note_zeroed(self, parameter: Parameter) -> None:
        """This thread begins anew with the gradient."""
        if (writers := parameter._writers) is not None:
            me = _here.thread
            writers.settle(parameter.grad is not None, me)
            writers.lost = tuple(t for t in writers.lost if t is not me)
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
        """Refuse a step with gradients that other threads have taken, or are still adding to."""
        me = _here.thread
        for parameter in parameters:
            writers = parameter._writers
            if writers is None:
                continue
            if me in writers.lost:
                raise RuntimeError(
                    f"{owner}: another thread has stepped with, or zeroed, the gradient that this "
                    f"thread's backward gave the {parameter!r}, {CURE}; zero_grad() begins anew"
                )
            there = writers.all() if parameter.grad is not None else []
            if any(t is not me and _goes_backward(t.ident, parameter) for t in there):
                raise RuntimeError(
                    f"{owner}: another thread is in a backward that adds to the gradient of the "
                    f"{parameter!r}, {CURE}"
                )

    def settle(self, parameters: Iterable[Parameter]) -> None:
        """A step has taken the gradients of these parameters."""
        me = _here.thread
        for parameter in parameters:
            if (writers := parameter._writers) is not None and parameter.requires_grad:
                writers.settle(parameter.grad is not None, me)
                parameter._writer = 0


_here = _Here()
_known: WeakKeyDictionary[Any, tuple[Any, frozenset[int]]] = WeakKeyDictionary()
turns = _Turns()


@contextmanager
def in_step(optimizer: Any) -> Iterator[None]:
    """Around a step."""
    me = get_ident()
    turns.stepping[me] = optimizer
    try:
        turns.refuse_steps(optimizer)
        yield
    finally:
        turns.stepping.pop(me, None)


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


def _goes_backward(ident: int, parameter: Parameter) -> bool:
    """Whether a thread is in the ``backward`` of a module that has the parameter."""
    frame = sys._current_frames().get(ident)
    while frame is not None:
        if frame.f_code.co_name == "backward":
            module = frame.f_locals.get("self")
            own: Iterable[Any] = getattr(module, "parameters", tuple)()
            if any(p is parameter for p in own):
                return True
        frame = frame.f_back
    return False
