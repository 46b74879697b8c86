"""A decorator that makes unknown, missing or surplus arguments clear TypeErrors.

For functions and constructors with a Python signature. `_suggest.py` finds the nearest keyword;
`_nearest.py` serves the options of optimizers, which no signature lists.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from onepass._suggest import suggestion

P = ParamSpec("P")
R = TypeVar("R")


def suggest_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Make an unknown, missing or surplus argument a TypeError that shows how to call.

    Unknown keywords of a function that takes any are left to it.
    """
    parameters = [*inspect.signature(function).parameters.values()]
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    names = [*positional, *(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    takes_more = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    needed = [p.name for p in parameters if p.default is p.empty and p.name in names]
    hidden = {"self", "cls"} & set(positional[:1])
    shown = [n for n in positional if n in needed and n not in hidden]
    shown += [f"{n}=…" for n in needed if n not in positional]
    rest = ["…"] if len(names) > len(needed) or takes_any else []
    form = f"({', '.join([*shown, *rest])})"
    constructs = function.__qualname__.endswith(".__init__")

    def label(args: tuple[Any, ...]) -> str:
        """The name that was called: of a constructor the class, which may inherit it."""
        return type(args[0]).__name__ if constructs else function.__qualname__

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for key in kwargs:
            if key not in names and not takes_any:
                known = ", ".join(name for name in names if name not in hidden)
                hint = suggestion(key, names) or f", expected one of {known}"
                raise TypeError(f"{label(args)}: unknown keyword {key!r}{hint}")
        if len(args) > len(positional) and not takes_more:
            raise TypeError(
                f"{label(args)}: {args[len(positional)]!r} comes after the last argument by "
                f"position, {positional[-1]!r}, expected {label(args)}{form} with its name"
            )
        missing = [n for n in needed if n not in kwargs and n not in positional[: len(args)]]
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            raise TypeError(
                f"{label(args)}: {', '.join(map(repr, missing))} {verb} missing, expected "
                f"{label(args)}{form}"
            )
        return function(*args, **kwargs)

    return checked


class SuggestsKeywords:
    """Base of classes of which those in this package have `suggest_keywords` constructors."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__module__.startswith("onepass.") and "__init__" in vars(cls):
            cls.__init__ = suggest_keywords(cls.__init__)  # type: ignore[method-assign]
