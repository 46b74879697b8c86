"""Decisions that are kept until something they were based on changes.

Which layers run as one kernel depends on modes, options, flags and overridden methods. The code
that decides reads all of these through `Facts`, which can later tell whether a new decision would
read the same.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, Generic, TypeAlias, TypeVar

V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any])
Read: TypeAlias = Callable[[Any, str], Any]  # getattr, or `Facts.read`

_bypassable: set[Callable[..., Any]] = set()


def bypassable(method: F) -> F:
    """Mark a method that a fused kernel does the work of; one that overrides it is not marked."""
    _bypassable.add(method)
    return method


class Facts(Generic[V]):
    """Attributes as they were when read, and what was decided from them: ``value``."""

    value: V

    def __init__(self) -> None:
        self._values: list[tuple[Any, str, Any]] = []
        self._methods: list[tuple[Any, str, Any]] = []
        self._constant = True

    def read(self, owner: Any, name: str) -> Any:
        """``owner.name``, watched from now on: for another object, not for changes inside it.

        Nothing is decided by the elements of an array, and what is decided by the attributes of a
        module is read here too.
        """
        value = getattr(owner, name)
        self._values.append((owner, name, value))
        inside = hasattr(value, "__setitem__") or isinstance(value, set)
        if inside and not hasattr(value, "dtype") and not hasattr(value, "named_modules"):
            self._constant = False  # may change without a trace: decide anew every time
        return value

    def keeps(self, module: Any, *names: str) -> bool:
        """Whether a kernel may run in place of these methods: none is overridden.

        Not in a subclass, not on the instance, not by assignment to a class.
        """
        kept = True
        for name in names:
            method = getattr(module, name)
            self._methods.append((module, name, method))
            function = method.__func__ if isinstance(method, MethodType) else None
            kept = kept and function in _bypassable and method.__self__ is module
        return kept

    def hold(self) -> bool:
        """Whether everything that was read is as it was."""
        for owner, name, value in self._values:
            if getattr(owner, name, None) is not value:
                return False
        for owner, name, method in self._methods:
            if getattr(owner, name, None) != method:
                return False
        return self._constant
