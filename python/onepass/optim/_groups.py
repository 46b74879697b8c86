"""Reads the parameter groups that are passed to an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from onepass._nearest import did_you_mean, nearest
from onepass.ops._declare_update import RULES
from onepass.optim._riders import OF_GROUPS, OF_OPTIMIZER
from onepass.optim._states import is_array
from onepass.optim._torch_options import refuse_unmet

# Arguments of a constructor that are not options of a group, where they would do nothing.
OF_CONSTRUCTOR = ("compat", "diagnostics", *OF_OPTIMIZER)


class Group(dict[str, Any]):
    """A parameter group. Once a CUDA graph holds a step, what changes here reaches its replays."""

    __slots__ = ("changed",)

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.changed: Callable[[], None] | None = None

    def __reduce__(self) -> Any:  # a copy is in no graph
        return type(self), (dict(self),)

    def _change(self, change: Callable[..., Any], *given: Any, **options: Any) -> Any:
        """``change(self, …)``, taken back if it is refused."""
        if self.changed is None:
            return change(self, *given, **options)
        before = dict(self)
        result = change(self, *given, **options)
        try:
            self.changed()
        except BaseException:
            dict.clear(self)
            dict.update(self, before)
            raise
        return result

    def __setitem__(self, key: str, value: Any) -> None:
        self._change(dict.__setitem__, key, value)

    def __delitem__(self, key: str) -> None:
        self._change(dict.__delitem__, key)

    def update(self, *given: Any, **options: Any) -> None:
        self._change(dict.update, *given, **options)

    def __ior__(self, other: Any) -> Group:  # type: ignore[override, misc]
        self.update(other)
        return self

    def setdefault(self, *given: Any) -> Any:
        return self._change(dict.setdefault, *given)

    def pop(self, *given: Any) -> Any:
        return self._change(dict.pop, *given)

    def popitem(self) -> tuple[str, Any]:
        found: tuple[str, Any] = self._change(dict.popitem)
        return found

    def clear(self) -> None:
        self._change(dict.clear)


def group_numbers(groups: Sequence[Mapping[str, Any]]) -> list[int]:
    """The number of the group of each parameter, in flat order."""
    return [number for number, group in enumerate(groups) for _ in group["params"]]


def of_parameters(
    groups: Sequence[Mapping[str, Any]], values: Sequence[Any] | None = None
) -> list[Any]:
    """The group of each parameter, in flat order; with ``values``, a value of each group."""
    each = groups if values is None else values
    return [each[number] for number in group_numbers(groups)]


def refuse_no_group(owner: str, group: Any) -> None:
    """TypeError for what is not a dict, ValueError for one without "params"."""
    if not isinstance(group, Mapping):
        raise TypeError(f"{owner}: a group is a {type(group).__name__}, expected a dict")
    if "params" not in group:
        shown = ", ".join(map(repr, group))
        raise ValueError(
            f"{owner}: a group has the keys {shown}, expected 'params' and options; for a dict of "
            "arrays pass list(arrays.values())"
        )


def group_dicts(owner: str, params: Any) -> list[Mapping[str, Any]]:
    """The group dicts of a constructor's ``params``: parameters alone are one group.

    Raises:
        TypeError: one bare array, or no parameters at all. ValueError: an empty list.
    """
    entries = [params] if isinstance(params, Mapping) else _entries(owner, params)
    return entries if isinstance(entries[0], Mapping) else [{"params": entries}]


def filled(
    owner: str, group: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str | None]]:
    """A group with every option and a list of its parameters, and the parameters' names.

    Keys that are not options, such as "name" or "lr_scale", are kept.

    Raises:
        ValueError: no parameters, or one that is computed. TypeError: a key that is nearly an
            option, or one of other optimizers.
    """
    refuse_no_group(owner, group)
    for key in group:
        if key in defaults or key == "params":
            continue
        if key in _options_of_all():
            raise TypeError(
                f"{owner}: {key!r} in a parameter group is not an option of {owner}, expected "
                f"{', '.join(defaults)} (any other key is kept)"
            )
        if nearest(str(key), [*defaults, "params"]):
            hint = did_you_mean(str(key), [*defaults, "params"])
            raise TypeError(f"{owner}: unknown option {key!r} in a parameter group{hint}")
    refuse_unmet(owner, group)
    entries = group["params"]
    entries = [entries] if _is_parameter(entries) else _entries(owner, entries)
    pairs = [e if isinstance(e, tuple) and len(e) == 2 else (None, e) for e in entries]
    for index, (_, parameter) in enumerate(pairs):
        if not is_array(parameter) or isinstance(parameter, (np.generic, type)):
            shown = "None" if parameter is None else f"a {type(parameter).__name__}"
            raise TypeError(
                f"{owner}: 'params[{index}]' is {shown}, expected an array: NumPy, CuPy, PyTorch, "
                "or anything with a shape, a dtype and __cuda_array_interface__ or __dlpack__"
            )
    if not all(getattr(p, "is_leaf", True) for _, p in pairs):
        raise ValueError(f"{owner}: a parameter is the result of an operation, not a leaf")
    names = [name for name, _ in pairs]
    given = group.get("param_names")  # of `param_groups`, and of PyTorch
    if isinstance(given, (list, tuple)) and len(given) == len(names):
        names = [own or name for own, name in zip(names, given, strict=True)]
    return Group({**defaults, **group, "params": [p for _, p in pairs]}), names


def _entries(owner: str, params: Any) -> list[Any]:
    """The parameters of a module or of a list.

    Raises:
        TypeError: neither. ValueError: there are none.
    """
    if not _is_parameter(params) and callable(getattr(params, "named_parameters", None)):
        params = params.named_parameters()
    if _is_parameter(params) or not isinstance(params, Iterable) or isinstance(params, str):
        raise TypeError(
            f"{owner}: 'params' is {type(params).__name__}, expected a list of arrays or "
            "parameters, a module, or group dicts"
        )
    entries = list(params)
    if not entries:
        raise ValueError(f"{owner}: 'params' is empty, expected at least one parameter")
    return entries


def _is_parameter(value: Any) -> bool:
    return is_array(value) and not isinstance(value, type)


def _options_of_all() -> set[str]:
    """Options of optimizers. In a group of one that lacks them they would do nothing."""
    return {*OF_CONSTRUCTOR, "maximize", *OF_GROUPS}.union(
        *(rule.options for rule in RULES.values())
    )
