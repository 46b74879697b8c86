"""The ``activation=`` argument of the fused kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from onepass.ops._declare import ACTIVATIONS, Declared, Kernel

ActivationSpec: TypeAlias = "str | tuple[str, Mapping[str, Any]] | Kernel | None"

_NONE = Kernel("identity", ())


def resolve(op: str, activation: ActivationSpec) -> Kernel:
    """The kernel of an activation given as a name, as (name, options) or resolved already."""
    if type(activation) is Kernel:
        return activation
    if activation is None:
        return _NONE
    if isinstance(activation, str):
        return _declared(op, activation).default
    try:
        name, options = activation
        given = dict(options.items())  # type: ignore[union-attr]
    except (TypeError, ValueError, AttributeError):
        raise TypeError(
            f"{op}: 'activation' is {activation!r}, expected a name, a pair (name, options) or None"
        ) from None
    return _declared(op, name).kernel(op, given)


def _declared(op: str, name: object) -> Declared:
    if isinstance(name, str) and name in ACTIVATIONS:
        return ACTIVATIONS[name]
    known = ", ".join(sorted(ACTIVATIONS))
    raise ValueError(f"{op}: 'activation' is {name!r}, expected one of {known}")
