"""How an object is shown: as the call that makes it."""

from __future__ import annotations

import inspect


def as_call(made: object) -> str:
    """``Name(argument=value, …)``: the arguments of its class that it keeps as attributes."""
    names = [name for name in inspect.signature(type(made)).parameters if hasattr(made, name)]
    shown = ", ".join(f"{name}={getattr(made, name)!r}" for name in names)
    return f"{type(made).__name__}({shown})"
