"""Errors that name the nearest valid spelling."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from onepass._suggest import suggestion

P = ParamSpec("P")
R = TypeVar("R")


def suggest_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Make an unknown keyword a TypeError with the nearest name."""
    names = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    label = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for key in kwargs:
            if key not in names:
                known = ", ".join(name for name in names if name != "self")
                hint = suggestion(key, names) or f", expected one of {known}"
                raise TypeError(f"{label}: unknown keyword {key!r}{hint}")
        return function(*args, **kwargs)

    return checked
