"""Writes state dicts in PyTorch's layout, and checks them completely before loading."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from onepass._array import Array, DType, converted
from onepass._kind import like
from onepass._numbers import as_float
from onepass.ops._ranges import SCALAR_RANGES, SQUARES

Groups = list[dict[str, Any]]


def saved(
    groups: Groups,
    states: Mapping[str, Sequence[Any]],
    steps: Sequence[int],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The state_dict of parameters that have taken ``steps``; the arrays are not copied. Each group
    says the ``settings`` of the optimizer, as a distributed checkpoint keeps nothing else."""
    state = {
        index: {
            "step": step,
            **{name: values[index] for name, values in states.items() if values[index] is not None},
        }
        for index, step in enumerate(steps)
        if step > 0
    }
    numbered, first = [], 0
    for group in groups:
        count = len(group["params"])
        options = {key: value for key, value in group.items() if key != "params"}
        numbered.append({**options, **settings, "params": list(range(first, first + count))})
        first += count
    return {"state": state, "param_groups": numbered}


class Reader:
    """Reads a state_dict that may not fit.

    Args:
        owner: name of the optimizer.
        own: its groups.
        names: of its parameters, where they have some.
        options: the options of a group.
        identity: those that tell kinds of it apart: they may be missing, but must not differ.
        added: those that may be missing, since PyTorch has none such.
        formula: of PyTorch: what it means where one of `identity` is missing.
        settings: of the optimizer: a group may have them, but no others.
        why_not: why the optimizer cannot be made with another value of a setting, with what it
            expects; None: it can.

    Raises:
        ValueError: in every method, if the state_dict does not fit.
    """

    def __init__(
        self,
        owner: str,
        own: Groups,
        names: Sequence[str | None],
        options: set[str],
        identity: Sequence[str],
        added: Iterable[str] = (),
        formula: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        why_not: Callable[[str, Any], str | None] = lambda _key, _value: None,
    ) -> None:
        self.owner, self.own, self.names = owner, own, names
        self.options, self.identity, self.added = options, identity, added
        self.formula, self.settings, self.why_not = formula or {}, settings or {}, why_not

    def refuse(self, why: str) -> ValueError:
        return ValueError(f"{self.owner}.load_state_dict: {why}; nothing was changed")

    def groups(self, state_dict: Any) -> Groups:
        """Groups with every option of the optimizer's own, and as many parameters."""
        try:
            groups = [dict(group) for group in state_dict["param_groups"]]
            sizes = [len(group["params"]) for group in groups]
            dict(state_dict["state"])
        except (KeyError, TypeError, ValueError):
            raise self.refuse(
                "expected a dict with 'state' and 'param_groups' as state_dict() gives"
            ) from None
        expected = [len(group["params"]) for group in self.own]
        if sizes != expected:
            raise self.refuse(f"groups have {sizes} parameters, expected {expected}")
        for group, own in zip(groups, self.own, strict=True):
            for key in self.added:
                group.setdefault(key, own[key])
            if missing := sorted(self.options - set(self.identity) - set(group)):
                raise self.refuse(
                    f"a group lacks {', '.join(missing)}: a state of another optimizer?"
                )
            for key in self.identity:
                # Older files of torch's hold None for False.
                meant = self.formula.get(key, own[key])
                if (group.setdefault(key, meant) or False) != (own[key] or False):
                    raise self.refuse(
                        f"{key!r} is {group[key]!r}, expected {own[key]!r}: a state of another "
                        "optimizer?"
                    )
            for key, setting in self.settings.items():
                if (meant := group.pop(key, setting)) != setting:
                    why = self.why_not(key, meant) or (
                        f"expected {setting!r}: to go on as it was saved, make the optimizer with "
                        f"{key}={meant!r}"
                    )
                    raise self.refuse(
                        f"{key!r} is {meant!r}, {why}; to go on otherwise, delete {key!r} from the "
                        "groups of the state"
                    )
        return groups

    def entries(
        self,
        state_dict: Any,
        groups: Groups,
        shapes: Mapping[str, Callable[[Sequence[int]], tuple[int, ...] | None]],
        required: Sequence[set[str]],
        scalars: Iterable[str],
        arrays: Sequence[Array],
    ) -> dict[int, dict[str, Any]]:
        """The saved states of each parameter, by its position; nothing for one without a gradient.

        Args:
            state_dict: as `groups` took it.
            groups: what `groups` gave.
            shapes: all states of the optimizer, with their shapes beside a parameter of a shape;
                None: it does without.
            required: for each parameter, those that must be there.
            scalars: numbers that must be there too.
            arrays: the parameters.
        """
        position = {index: at for at, index in enumerate(i for g in groups for i in g["params"])}
        if len(position) < len(arrays):
            raise self.refuse("'param_groups' names a parameter twice, expected each once")
        entries: dict[int, dict[str, Any]] = {}
        for index, entry in dict(state_dict["state"]).items():
            if index not in position:
                if isinstance(index, str) and index.isdecimal() and int(index) in position:
                    raise self.refuse(
                        f"'state' has the key {index!r}, expected the number {index}: JSON makes "
                        "strings of numbers; make them numbers again"
                    )
                raise self.refuse(f"state for parameter {index}, which no group names")
            at = position[index]
            of = f"of parameter {index}{f' ({self.names[at]})' if self.names[at] else ''}"
            if not isinstance(entry, Mapping):
                raise self.refuse(f"the state {of} is {type(entry).__name__}, expected a dict")
            filled = {key: value for key, value in entry.items() if value is not None}
            # PyTorch's Adagrad has an entry from the start, with a count of 0.
            if not filled or _is_zero(filled.get("step")):
                continue
            if missing := sorted({*required[at], *scalars} - set(filled)):
                raise self.refuse(
                    f"{missing[0]!r} {of} is missing, expected a state with "
                    f"{', '.join(map(repr, sorted({*required[at], *scalars})))}: another optimizer?"
                )
            for name, shape_of in shapes.items():
                if name in filled:
                    own = tuple(arrays[at].shape)
                    if (shape := shape_of(own)) is None:
                        raise self.refuse(
                            f"{name!r} {of} is given, expected none beside a parameter of shape "
                            f"{own}"
                        )
                    self._check_array(name, of, filled[name], shape)
            for name in scalars:
                filled[name] = self._number(name, of, filled[name])
            filled["step"] = self._count(of, filled.get("step", 1))
            entries[at] = filled
        return entries

    def placed(self, name: str, index: int, value: Any, like: Array, dtype: DType) -> Array:
        """An array of `entries` in a dtype and where ``like`` lies.

        Raises:
            ValueError: it has a number that the dtype has not.
        """
        result, lost = converted(value, like, dtype)
        if lost is not None:
            own = self.names[index]
            raise self.refuse(
                f"{name!r} of parameter {index}{f' ({own})' if own else ''} holds {lost}, expected "
                f"numbers of {str(dtype).removeprefix('torch.')}: a state of a run that diverged? "
                "Load an earlier one"
            )
        return result

    def _number(self, name: str, of: str, value: Any) -> float:
        try:
            return SCALAR_RANGES[name].check(self.owner, name, _held(value))
        except (TypeError, ValueError, RuntimeError) as error:
            expected = str(error).rpartition("expected ")[2]
            raise self.refuse(f"{name!r} {of} is {value!r}, expected {expected}") from None

    def _count(self, of: str, step: Any) -> int:
        """A step count saved as a number or a 0-d array, such as PyTorch's tensor(3.)."""
        try:
            number = as_float(self.owner, "step", _held(step), "")
            count = int(step)  # a float has not the last digits of a large int
        except (TypeError, ValueError, OverflowError, RuntimeError):
            number, count = math.nan, 0
        if not number.is_integer() or not 1 <= count < 2**63:
            raise self.refuse(
                f"'step' {of} is {step!r}, expected a whole number >= 1 and < 2**63, the steps "
                "taken"
            )
        return count

    def _check_array(self, name: str, of: str, value: Any, shape: tuple[int, ...]) -> None:
        label = f"{name!r} {of}"
        try:
            like(self.owner, label, value)
        except TypeError as error:
            raise self.refuse(str(error).removeprefix(f"{self.owner}: ")) from None
        if str(getattr(value, "layout", "")).startswith("torch.sparse"):
            raise self.refuse(f"{label} is a sparse tensor, expected a dense one")
        if str(getattr(value, "device", "")) == "meta":
            raise self.refuse(f"{label} is on the device 'meta', expected an array with memory")
        if tuple(value.shape) != shape:
            raise self.refuse(f"{label} has shape {tuple(value.shape)}, expected {shape}")
        if name in SQUARES and bool((value < 0).any()):
            raise self.refuse(f"{label} holds a negative number, expected averages of squares")


def _is_zero(step: Any) -> bool:
    try:
        return step is not None and as_float("", "", _held(step), "") == 0
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return False


def _held(value: Any) -> Any:
    """A number, also that of a 0-d array; TypeError for other arrays."""
    if getattr(value, "shape", ()) != () or hasattr(value, "mask"):
        raise TypeError("an array")
    return value
