"""What an ``activation=`` argument of a fused kernel means."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from onepass.ops import _activation

ActivationSpec: TypeAlias = "str | tuple[str, Mapping[str, Any]] | None"


def resolve(op: str, activation: ActivationSpec) -> tuple[str, tuple[float, ...]]:
    """Kernel name and options of an activation given as a name or (name, options).

    The options and their defaults are those of the function of that name in ``onepass.ops``.
    """
    if activation is None:
        return "identity", ()
    if isinstance(activation, str):
        return _resolved(op, activation, ())
    try:
        name, options = activation
        items = tuple(sorted(options.items()))
    except (TypeError, ValueError, AttributeError):
        raise TypeError(
            f"{op}: 'activation' is {activation!r}, expected a name, a pair (name, options) or None"
        ) from None
    return _resolved(op, name, items)


@lru_cache(maxsize=256)
def _resolved(
    op: str, name: str, items: tuple[tuple[str, Any], ...]
) -> tuple[str, tuple[float, ...]]:
    backward = getattr(_activation, f"{name}_backward", None)
    if backward is None:
        known = sorted(
            n.removesuffix("_backward") for n in vars(_activation) if n.endswith("_backward")
        )
        raise ValueError(f"{op}: 'activation' is {name!r}, expected one of {', '.join(known)}")
    parameters = inspect.signature(backward).parameters.values()
    options = {
        p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "out"
    }
    for key, value in items:
        if key not in options:
            allowed = ", ".join(options) or "none"
            raise TypeError(f"{op}: activation {name!r} has no option {key!r} (options: {allowed})")
        options[key] = value
    if name == "gelu":
        approximate = options.pop("approximate")
        if approximate not in ("none", "tanh"):
            raise ValueError(f"{op}: 'approximate' is {approximate!r}, expected 'none' or 'tanh'")
        name = "gelu_tanh" if approximate == "tanh" else "gelu"
    try:
        return name, tuple(float(v) for v in options.values())
    except (TypeError, ValueError):
        raise TypeError(
            f"{op}: the options of activation {name!r} are {dict(items)!r}, expected numbers"
        ) from None
