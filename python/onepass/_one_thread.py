"""One thread at a time: the error that a second one gets, and what a forked child forgets.

Every refusal of this kind is a `refusal`, whichever mechanism finds it: `OneThread` for one object,
nn/_saved.py for a module in training mode, nn/_use.py for the model of a Trainer's call, and
_turns.py for parameters that several models or optimizers share.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any
from weakref import WeakSet

EXPECTED = (
    "expected one thread at a time: wait for it (in loops of your own, put a lock around each "
    "whole iteration), or give each thread a copy (copy.deepcopy)"
)
EVALUATES = "; in evaluation mode, after eval(), any number of threads may call it"


def refusal(owner: str, does: str, more: str = "") -> RuntimeError:
    """The error of a thread that comes second.

    Args:
        owner: the call or the class that refuses.
        does: what the other thread does: "is in a step".
        more: a sentence behind the cure.
    """
    return RuntimeError(f"{owner}: another thread {does}, {EXPECTED}{more}")


def after_fork(forget: Callable[[int], None]) -> None:
    """Call ``forget(thread)`` in every forked child, with the only thread that is left there."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: forget(get_ident()))


_held: WeakSet[Any] = WeakSet()


def freed_by_fork(holder: Any) -> None:
    """Keep ``holder.forget_others(thread)`` for forked children."""
    _held.add(holder)


@after_fork
def _forget(thread: int) -> None:
    for holder in list(_held):
        holder.forget_others(thread)


def keep_only(thread: int, held: dict[Any, int]) -> None:
    """Leave the entries of this thread in a dict whose values are threads."""
    for key, other in list(held.items()):
        if other != thread:
            del held[key]


class Lock:
    """A lock that a forked child finds open, whoever held it.

    Args:
        reentrant: the thread that has it may enter again.
    """

    def __init__(self, *, reentrant: bool = False) -> None:
        self._made: Callable[[], Any] = threading.RLock if reentrant else threading.Lock
        self._lock = self._entered = self._made()
        freed_by_fork(self)

    def forget_others(self, thread: int) -> None:
        """In a forked child, where nobody is left to release it."""
        self._lock = self._made()

    def stay_out_of_forks(self) -> None:
        """A fork waits until nobody is inside, a second at most: what is called there may have
        locks of its own, which a child would find closed for ever."""
        taken = threading.local()

        def before() -> None:
            lock = self._lock
            taken.lock = lock if lock.acquire(timeout=1) else None

        def after() -> None:
            lock = getattr(taken, "lock", None)  # without one: the fork began before this
            if lock is not None:
                lock.release()

        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=before, after_in_parent=after)

    def __enter__(self) -> None:
        lock = self._lock
        lock.acquire()
        self._entered = lock

    def __exit__(self, *error: object) -> None:
        self._entered.release()


class OneThread:
    """``with`` this around what two threads must not do at once.

    A call that is interrupted while it enters or leaves stops other threads alone: the thread
    itself may always enter again.

    Args:
        owner: the class or function that the user called, for the message.

    Attributes:
        held: {"by": thread} during a call. A hot path that must do without the calls of ``with``
            does what `__enter__` and `__exit__` do. ``setdefault`` and ``clear`` are atomic, also
            without the GIL.

    Raises:
        RuntimeError: on entering, while another thread is inside.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self.held: dict[str, int] = {}
        freed_by_fork(self)

    def error(self) -> RuntimeError:
        """The error of a second thread."""
        return refusal(self._owner, "uses it")

    def forget_others(self, thread: int) -> None:
        """In a forked child, where this thread is the only one."""
        keep_only(thread, self.held)

    def __enter__(self) -> None:
        me = get_ident()
        if self.held.setdefault("by", me) != me:
            raise self.error()

    def __exit__(self, *error: object) -> None:
        self.held.clear()

    def __reduce__(self) -> Any:  # a copy is not in use
        return type(self), (self._owner,)
