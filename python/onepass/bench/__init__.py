"""Microbenchmarks: how close each kernel is to what memory allows, and to what others reach.

``onepass bench`` (or ``python -m onepass.bench``) prints the table; ``measure`` times functions of
your own in the same way.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onepass.bench._compare import compare
    from onepass.bench._measure import measure
    from onepass.bench._roofline import roofline

__all__ = ["compare", "measure", "roofline"]
_PLACES = {"compare": "_compare", "measure": "_measure", "roofline": "_roofline"}

if not TYPE_CHECKING:  # a type checker would take any name from it

    def __getattr__(name: str) -> Any:
        if name in _PLACES:
            return getattr(importlib.import_module(f"onepass.bench.{_PLACES[name]}"), name)
        raise AttributeError(f"module 'onepass.bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
