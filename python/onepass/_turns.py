"""Raises an error if two threads train one Parameter at once, even in their own loops.

A step must not overlap another thread's step or backward. If another thread has already stepped
with, or zeroed, some of a thread's gradients, that thread must not step with the rest. A thread
may step with gradients that other threads have finished.

Almost always one thread alone has added to a gradient. Then ``Parameter._writer`` is that thread,
and nothing else is kept; only where a second one comes in are there `Writers`.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock, get_ident
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from onepass._one_thread import after_fork, refusal

F = TypeVar("F", bound=Callable[..., Any])
Parameter: TypeAlias = Any  # that of _parameter.py, which imports this file
NEVER = sys.maxsize  # a time after all others


class Writers:
    """Threads that have added to a parameter's gradient, and when, by ``turns.losses``.

    Attributes:
        present: of those whose additions are in it, when each began. Empty where
            ``Parameter._writer`` is the only one.
        lost: of those whose additions another one stepped with, or zeroed, with no new one since.
    """

    __slots__ = ("lost", "present")

    def __init__(self) -> None:
        self.present: dict[int, int] = {}
        self.lost: dict[int, int] = {}


class _Turns:
    """Shared by all threads, which are known by their idents.

    Attributes:
        stepping: the optimizer that each thread is in a step of.
        going_back: the outermost module that each thread is in the backward of.
        adding: held while a thread adds to a gradient.
        several: whether more than one thread has gone backward so far: else none has lost anything.
        losses: how often a thread has lost additions: the clock that tells those before from after.
        changes: another number whenever another thread has added to some gradient than before.
    """

    __slots__ = ("_first", "adding", "changes", "going_back", "losses", "several", "stepping")

    def __init__(self) -> None:
        self.stepping: dict[int, Any] = {}
        self.going_back: dict[int, Any] = {}
        self.adding = Lock()
        self.several = False
        self.losses = self.changes = 0
        self._first = 0

    def forget_others(self, thread: int) -> None:
        """In a forked child, where this thread is the only one."""
        for entries in (self.stepping, self.going_back):
            for other in entries.keys() - {thread}:
                del entries[other]
        self.adding = Lock()  # nobody is left to release it

    def note_writer(self, parameter: Parameter, me: int) -> None:
        """This thread adds to a gradient, and is not known as the only one; ``adding`` is held."""
        self._first = self._first or me
        self.several = self.several or self._first != me
        self.changes += 1
        writers, others = parameter._writers, {}
        if parameter.grad is not None:
            if parameter._writer:
                others = {parameter._writer: parameter._since}
            elif writers is not None:
                others = writers.present
        if writers is not None:
            writers.lost.pop(me, None)
        since = others.pop(me, None)
        parameter._since = self.losses if since is None else since
        parameter._writer = 0 if others else me
        if others:
            writers = writers or Writers()
            writers.present = {**others, me: parameter._since}
        elif writers is not None:
            writers.present = {}
            writers = writers if writers.lost else None
        parameter._writers = writers

    def note_taken(self, parameter: Parameter, me: int, *, zeroed: bool = False) -> None:
        """This thread steps with a gradient to which others have added, or zeroes it."""
        with self.adding:
            writers = parameter._writers
            present = {parameter._writer: 0} if parameter._writer else {}
            present = present if writers is None else {**present, **writers.present}
            there = parameter.grad is not None
            lost = [thread for thread in present if thread != me] if there else []
            if lost:
                when, self.losses = self.losses, self.losses + 1
                writers = writers or Writers()
                for thread in lost:  # within a backward no later addition makes it whole
                    writers.lost[thread] = NEVER if self._adds(thread, parameter) else when
            if writers is not None:
                writers.present = {}
                if zeroed:
                    writers.lost.pop(me, None)
            parameter._writer, parameter._writers = 0, writers
            self.changes += 1

    def note_step(self, parameters: Iterable[Parameter], me: int, *, zeroed: bool) -> None:
        """This thread has stepped with gradients to which others have added."""
        for parameter in parameters:
            if parameter.requires_grad or zeroed:
                self.note_taken(parameter, me, zeroed=zeroed)

    def refuse_writing(self, parameter: Parameter, thread: int) -> None:
        """Refuse to add to a gradient while another thread is in a step of its parameter."""
        for other, optimizer in [*self.stepping.items()]:
            if other != thread and id(parameter) in _ids(optimizer):
                raise refusal("backward", f"is in a step of {optimizer._name} over the {parameter}")

    def refuse_steps(self, optimizer: Any) -> None:
        """Refuse a step over a parameter that another thread is in a step of.

        Waits until an addition to a gradient that another thread has begun is done.
        """
        me = get_ident()
        with self.adding:
            pass
        for other, stepped in [*self.stepping.items()]:
            shared = _ids(stepped) & _ids(optimizer) if other != me else ()
            for parameter in optimizer._parameters if shared else ():
                if id(parameter) in shared:
                    raise refusal(optimizer._name, f"is in a step over the {_shown(parameter)} too")

    def taken(
        self, owner: str, holders: Sequence[tuple[Parameter, Any]], me: int
    ) -> Sequence[Parameter]:
        """The parameters to whose gradients others have added, which a step is about to take.

        Raises:
            RuntimeError: a backward that has begun to add to one of them is not through, or another
                thread has taken in part what this thread's backward gave.
        """
        shared = [p for p, _ in holders if p._writer != me and (p._writer or p._writers)]
        if not shared:
            return shared
        begun = [p._since for p, _ in holders if p._writer == me and p.grad is not None]
        lost: list[tuple[int, Parameter]] = []
        for parameter in shared:
            writers = parameter._writers
            if not parameter.requires_grad:
                continue
            if writers is not None and me in writers.lost:
                lost.append((writers.lost[me], parameter))
            if parameter.grad is None:
                continue
            present = {} if writers is None else writers.present
            if me in present:
                begun.append(present[me])
            for thread in (parameter._writer, *present):
                if thread not in (0, me) and self._adds(thread, parameter):
                    raise refusal(
                        owner, f"is in a backward that adds to the gradient of the {parameter}"
                    )
        for when, parameter in lost:
            if begun and min(begun) <= when:
                raise refusal(
                    owner,
                    "has stepped with, or zeroed, the gradient that this thread's backward gave "
                    f"the {parameter}",
                    "; zero_grad() begins anew",
                )
        return shared

    def _adds(self, thread: int, parameter: Parameter) -> bool:
        """Whether a thread is in the backward of a module that has the parameter."""
        module = self.going_back.get(thread)
        return module is not None and any(p is parameter for p in module.parameters())


_known: WeakKeyDictionary[Any, tuple[Any, frozenset[int]]] = WeakKeyDictionary()
turns = _Turns()
after_fork(turns.forget_others)
_going_back = turns.going_back


def noted(backward: F) -> F:
    """A module's ``backward`` that is in ``turns.going_back`` while it runs."""

    # Without *args and **kwargs, which cost a tenth of a microsecond a layer.
    @functools.wraps(backward)
    def note(module: Any, dy: Any, *, need_input_grad: bool = True) -> Any:
        me = get_ident()
        if me in _going_back:  # inside that of another module
            return backward(module, dy, need_input_grad=need_input_grad)
        _going_back[me] = module
        try:
            return backward(module, dy, need_input_grad=need_input_grad)
        finally:
            del _going_back[me]

    @functools.wraps(backward)
    def note_any(module: Any, *args: Any, **kwargs: Any) -> Any:
        me = get_ident()
        if me in _going_back:
            return backward(module, *args, **kwargs)
        _going_back[me] = module
        try:
            return backward(module, *args, **kwargs)
        finally:
            del _going_back[me]

    given = [(p.name, p.kind, p.default) for p in inspect.signature(backward).parameters.values()]
    return note if given[1:] == _USUAL else note_any  # type: ignore[return-value]


_USUAL = [
    ("dy", inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty),
    ("need_input_grad", inspect.Parameter.KEYWORD_ONLY, True),
]


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
