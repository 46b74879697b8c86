"""Values that forward saves for backward: per mode, and in evaluation per thread.

In evaluation any number of threads may call one module: each finds what its own last call saved.
Training changes the module, so only one thread may train it; a second one gets an error.
"""

from __future__ import annotations

from sys import getrefcount
from threading import get_ident, local
from typing import Any, NoReturn

from onepass._one_thread import EVALUATES, freed_by_fork, keep_only, refusal
from onepass.nn._use import refuse_change


class _OfThread(local):
    saved: Any = None


class Saved:
    """The values that forward calls saved in one module.

    Attributes:
        trained: the value of the last forward in training mode.
        thread: which made it; 0 at first.
        here: ``here.saved`` is the value of this thread's last forward in evaluation mode.
        went_back: whether a backward has read it.
        displaced: threads after whose last forward in training mode another thread made one, before
            any backward.
        inside: the thread that is in a call in training mode, under the key 0. A dict, as its
            ``setdefault`` is one uninterrupted act and takes a third of a lock's time.
    """

    __slots__ = ("__weakref__", "displaced", "here", "inside", "thread", "trained", "went_back")

    def __init__(self) -> None:
        self.trained: Any = None
        self.thread = 0
        self.went_back = False
        self.here = _OfThread()
        self.displaced: set[int] = set()
        self.inside: dict[int, int] = {}
        freed_by_fork(self)

    def change_thread(self, module: Any, thread: int) -> None:
        """``thread`` makes the next forward in training mode, after another one.

        Raises:
            RuntimeError: a fit in another thread trains the module, between two of its own calls.
        """
        refuse_change(module, type(module).__name__)
        self.take_over(thread)

    def take_over(self, thread: int) -> None:
        """``thread`` makes the next forward in training mode."""
        if self.thread and self.thread != thread and not self.went_back:
            self.displaced.add(self.thread)
        self.thread = thread
        self.displaced.discard(thread)

    def unshared(self, training: bool) -> Any:
        """The last value in this mode, or None where something else refers to it too."""
        # Two references: the place where it is kept, and the argument of getrefcount.
        if training:
            return self.trained if getrefcount(self.trained) == 2 else None
        return self.here.saved if getrefcount(self.here.saved) == 2 else None

    def refuse(self, module: Any) -> NoReturn:
        raise refusal(type(module).__name__, "trains this module too", EVALUATES)

    def forget_others(self, thread: int) -> None:
        """In a forked child, where this thread is the only one."""
        keep_only(thread, self.inside)

    def __reduce__(self) -> Any:
        return Saved, ()  # a copy of a module starts with nothing saved


class SavedAttribute:
    """The `Saved` of a module, made when it is first asked for.

    Not in a constructor, which subclasses need not call, nor in ``__new__``, whose signature help()
    would show.
    """

    def __get__(self, module: Any, owner: type | None = None) -> Saved:
        if module is None:  # asked of the class, as inspect does
            return Saved()
        saved: Saved = vars(module).setdefault("_saved", Saved())
        return saved


class Saves:
    """The values that a `Module` saves in its forward for its backward."""

    training: bool
    _saved = SavedAttribute()

    @property
    def saved(self) -> Any:
        """The saved value of the last forward in this mode (in evaluation, of this thread)."""
        saved = self._saved
        if not self.training:
            return saved.here.saved
        if saved.displaced and get_ident() in saved.displaced:
            saved.refuse(self)
        saved.went_back = True
        return saved.trained

    @saved.setter
    def saved(self, value: Any) -> None:
        self._remember(value)

    def _remember(self, value: Any) -> None:
        """``self.saved = value``, by a shorter way."""
        if self.training:
            self._saved.trained = value
        else:
            self._saved.here.saved = value

    def recall(self) -> Any:
        """The saved value of the last forward call.

        Raises:
            RuntimeError: there was none in the module's present mode, or two threads train the
                module at once.
        """
        saved = self._saved
        if not self.training:
            value = saved.here.saved
        else:
            value = self.saved if saved.displaced else saved.trained
            saved.went_back = True
        if value is None:
            mode = "training" if self.training else "evaluation"
            raise RuntimeError(
                f"{type(self).__name__}.backward came before forward: call y = module(x) first, in "
                f"{mode} mode and from this thread"
            )
        return value
