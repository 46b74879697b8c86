"""Checks of the arguments of schedules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from onepass import _numbers as numbers


def groups_of(owner: str, optimizer: Any) -> list[dict[str, Any]]:
    """The optimizer's groups.

    Raises:
        TypeError: it has none, or they have no rate.
    """
    groups = getattr(optimizer, "param_groups", None)
    if not isinstance(groups, list) or not all("lr" in group for group in groups):
        kind = type(optimizer).__name__
        raise TypeError(
            f"{owner}: 'optimizer' is a {kind}, expected an optimizer whose param_groups have 'lr'"
        )
    return groups


def current_lrs(owner: str, groups: Sequence[dict[str, Any]]) -> list[float]:
    """The rates that groups have now."""
    return [numbers.in_range(owner, "lr", group["lr"], 0) + 0.0 for group in groups]  # no -0.0


def per_group(owner: str, name: str, value: Any, count: int, **bounds: Any) -> list[float]:
    """A number for every group, from one number or one each, within ``bounds`` of `in_range`."""
    if isinstance(value, (list, tuple)):
        if len(value) != count:
            raise ValueError(f"{owner}: {name!r} is {value!r}, expected one number or {count}")
        return [numbers.in_range(owner, f"{name}[{i}]", v, **bounds) for i, v in enumerate(value)]
    return [numbers.in_range(owner, name, value, **bounds)] * count


def steps(owner: str, name: str, value: Any) -> list[int]:
    """A list of step counts in ascending order; one may come twice."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{owner}: {name!r} is {value!r}, expected a list of steps")
    found = [numbers.integer(owner, f"{name}[{i}]", step, 1) for i, step in enumerate(value)]
    if found != sorted(found):
        raise ValueError(f"{owner}: {name!r} is {value!r}, expected steps in ascending order")
    return found
