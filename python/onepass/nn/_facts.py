"""Caches the decision which layers run as one kernel, until something it depends on changes.

It depends on modes, options, flags and overridden methods. The deciding code reads all of these
through `Facts`, which can later check whether they are still the same.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from types import MethodType
from typing import Any, Generic, TypeAlias, TypeVar

V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any])
Read: TypeAlias = Callable[[Any, str], Any]  # getattr, or `Facts.read`

_bypassable: set[Callable[..., Any]] = set()


class _Edits:
    """How often an attribute of any module was set or deleted: `Module.__setattr__` counts."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


edits = _Edits()
NOT_COUNTED = frozenset(("saved", "_saved", "_found", "_adds", "_holds_eval"))  # no decision reads


def bypassable(method: F) -> F:
    """Mark a method that a fused kernel does the work of; one that overrides it is not marked."""
    _bypassable.add(method)
    return method


def is_bypassable(function: Callable[..., Any]) -> bool:
    """Whether it is marked so."""
    return function in _bypassable


class Facts(Generic[V]):
    """Attributes as they were when read, and what was decided from them: ``value``."""

    value: V

    def __init__(self) -> None:
        self._values: list[tuple[Any, str, Any]] = []
        # Several methods of a module at once: the next call asks for all of them again.
        self._methods: list[tuple[Any, Callable[[Any], Any], Any]] = []
        # Where no module was edited since, only classes can have changed, and modules share those.
        self._classes: dict[tuple[type, Any], tuple[Callable[[Any], Any], Any]] = {}
        self._once: dict[tuple[int, str], Any] = {}
        self._seen = edits.count
        self._constant = True

    def once(self, owner: Any, name: str, decide: Callable[[Facts[V]], Any]) -> Any:
        """``decide(self)``, asked once: a decision about a block asks for those inside repeatedly.

        All that it read the first time is watched already.
        """
        key = id(owner), name
        if key not in self._once:
            self._once[key] = decide(self)
        return self._once[key]

    def read(self, owner: Any, name: str) -> Any:
        """``owner.name``, watched from now on: for another object, not for changes inside it.

        Nothing is decided by the elements of an array, and what is decided by the attributes of a
        module is read here too.
        """
        value = getattr(owner, name)
        if name in NOT_COUNTED or not hasattr(owner, "named_modules"):
            self._constant = False  # an edit would not be counted
        self._values.append((owner, name, value))
        inside = hasattr(value, "__setitem__") or isinstance(value, set)
        if inside and not hasattr(value, "dtype") and not hasattr(value, "named_modules"):
            self._constant = False  # may change without a trace: decide anew every time
        return value

    def keeps(self, module: Any, *names: str, unwatched: tuple[str, ...] = ()) -> bool:
        """Whether a kernel may run in place of these methods: none is overridden.

        Not in a subclass, not on the instance, not by assignment to a class. The ``unwatched`` are
        looked at now alone: a class may override them, and nobody patches them later.
        """
        getter = attrgetter(*names)
        methods = getter(module)
        self._methods.append((module, getter, methods))
        self._classes[type(module), names] = getter, getter(type(module))
        return all(
            isinstance(method, MethodType)
            and method.__self__ is module
            and method.__func__ in _bypassable
            for method in (*methods, *(getattr(module, name) for name in unwatched))
        )

    def hold(self) -> bool:
        """Whether everything that was read is as it was."""
        count = edits.count
        if count == self._seen:
            for (kind, _), (getter, functions) in self._classes.items():
                if getter(kind) != functions:
                    return False
            return self._constant
        for owner, name, value in self._values:
            if getattr(owner, name, None) is not value:
                return False
        try:
            for module, getter, methods in self._methods:
                if getter(module) != methods:
                    return False
        except AttributeError:
            return False
        self._seen = count
        return self._constant
