"""Parameter groups, as an optimizer is given them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from onepass.optim._states import is_array


def group_dicts(owner: str, params: Any) -> list[Mapping[str, Any]]:
    """The group dicts of a constructor's ``params``: parameters alone are one group.

    Raises:
        TypeError: one bare array. ValueError: nothing.
    """
    if params is None or is_array(params):
        raise TypeError(
            f"{owner}: 'params' is {type(params).__name__}, expected a list of arrays or parameters"
        )
    entries = [params] if isinstance(params, Mapping) else list(params)
    if not entries:
        raise ValueError(f"{owner}: 'params' is empty, expected at least one parameter")
    return entries if isinstance(entries[0], Mapping) else [{"params": entries}]


def filled(
    owner: str, group: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str | None]]:
    """A group with every option and a list of its parameters, and the parameters' names.

    Raises:
        ValueError: no parameters, or one that is computed. TypeError: an unknown option.
    """
    if "params" not in group:
        raise ValueError(f"{owner}: a group has no 'params' entry")
    if unknown := sorted(set(group) - set(defaults) - {"params"}):
        raise TypeError(f"{owner}: unknown option {unknown[0]!r} in a parameter group")
    params = group["params"]
    entries = list(params) if isinstance(params, Iterable) and not is_array(params) else [params]
    if not entries:
        raise ValueError(f"{owner}: 'params' is empty, expected at least one parameter")
    pairs = [e if isinstance(e, tuple) and len(e) == 2 else (None, e) for e in entries]
    if not all(getattr(p, "is_leaf", True) for _, p in pairs):
        raise ValueError(f"{owner}: a parameter is the result of an operation, not a leaf")
    return {**defaults, **group, "params": [p for _, p in pairs]}, [name for name, _ in pairs]
