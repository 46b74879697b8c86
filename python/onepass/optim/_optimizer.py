"""What every optimizer shares: parameter groups, state, the plan of a step, state_dict.

A new optimizer is a subclass with two methods: ``_rule`` names the kernel and its states,
``_hyper`` gives a group's checked hyper-parameters in the kernel's order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from onepass import _C
from onepass._array import (
    Array,
    brought_to,
    copy_into,
    is_contiguous,
    is_floating,
    parameter_dtype,
    zeros,
    zeros_like,
)
from onepass._parameter import Parameter
from onepass.ops._update import Nonfinite, StepInfo, take_step

COMPAT = ("torch", "keras", "optax", "chainer", "thinc", "apex")
_FROZEN = (bool, int, float, str, tuple, type(None), np.generic)


class Optimizer:
    """Base of all optimizers; not used by itself.

    Args:
        params: arrays, ``nn.Parameter`` objects, (name, parameter) pairs, or dicts with a "params"
            entry and options of their own. The arrays are updated in place and must not overlap.
        defaults: options of every group that does not set its own.
        compat: whose formulas to follow; "torch" is what exists so far.

    Attributes:
        param_groups: list of dicts; change ``group["lr"]`` and friends between steps.
    """

    _identity: tuple[str, ...] = ()  # options that tell kinds apart

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any], compat: str) -> None:
        if compat not in COMPAT:
            raise ValueError(
                f"{self._name}: 'compat' is {compat!r}, expected one of {', '.join(COMPAT)}"
            )
        if compat != "torch":
            raise ValueError(f"{self._name}: compat={compat!r} is not available yet, use 'torch'")
        self.param_groups: list[dict[str, Any]] = []
        self._defaults = dict(defaults)
        self._parameters: list[Any] = []
        self._names: list[str | None] = []
        self._arrays: list[Array] = []
        self._states: dict[str, list[Array]] = {}
        self._plan: _C.Plan | None = None
        self._plan_is_current = False  # it is for this kernel and these parameters
        # Reads a group's options, and what they were when the fields below were derived from them.
        self._read_options = itemgetter(*defaults)
        self._options: list[tuple[Any, ...]] | None = None
        self._hypers: list[tuple[float, ...]] = []
        self._wanted: tuple[str, tuple[str | None, ...]] = ("", ())
        self._maximize = False
        self._holders: list[tuple[Parameter, Array]] = []  # parameters whose array may be replaced
        if params is None or _is_array(params):
            raise TypeError(
                f"{self._name}: 'params' is {type(params).__name__}, expected a list of arrays or "
                "parameters"
            )
        entries = [params] if isinstance(params, Mapping) else list(params)
        if not entries:
            raise ValueError(f"{self._name}: 'params' is empty, expected at least one parameter")
        if not isinstance(entries[0], Mapping):
            entries = [{"params": entries}]
        for group in entries:
            self._append(group)
        self._prepare()

    # ---- what a subclass says

    def _rule(self) -> tuple[str, tuple[str | None, ...]]:
        """Kernel name and the names of its states, in the kernel's order; None: without it."""
        raise NotImplementedError

    def _hyper(self, group: Mapping[str, Any]) -> tuple[float, ...]:
        """Checked hyper-parameters of a group in the kernel's order, without the step."""
        raise NotImplementedError

    # ---- stepping

    def step(
        self,
        grads: Sequence[Array | None] | None = None,
        *,
        max_norm: float | None = None,
        max_value: float | None = None,
        grad_scale: float | None = None,
        zero_grad: bool = False,
        nonfinite: Nonfinite = "propagate",
    ) -> StepInfo:
        """Updates every parameter that has a gradient, in one launch.

        Order: divide by ``grad_scale`` → non-finite check → clamp to ±``max_value`` → scale by
        min(1, max_norm/(norm + 1e-6)) → the update.

        On CUDA nothing is waited for, the steps are counted on the device, and the result is copied
        from there when one of its fields is read; only ``nonfinite="raise"`` waits. A step captured
        in a CUDA graph (after one that was not) keeps the hyper-parameters it was captured with;
        every replay counts as a step.

        Args:
            grads: one array or None per parameter, in flat order; without it ``Parameter.grad`` (or
                a tensor's ``.grad``) is read. A parameter without gradient is left alone and its
                step count does not advance.
            max_norm: clip by the global norm.
            max_value: clamp elements first.
            grad_scale: what the loss was multiplied by.
            zero_grad: leave the gradient arrays at zero, on a skipped step too (not where the step
                raises: they show what was wrong).
            nonfinite: "propagate" (IEEE), "skip" (nothing changes) or "raise" (nothing changes,
                then FloatingPointError).

        Returns:
            StepInfo(skipped, grad_norm, nonfinite_param).

        Raises:
            ValueError: wrong number or shape of gradients, options out of range; nothing is
                changed.
            TypeError: a gradient that is no array, or of another dtype.
            FloatingPointError: with ``nonfinite="raise"``, naming the parameter.
        """
        plan = self._prepare()
        if grads is None:
            grads = self._grads()
        return take_step(
            self._name,
            plan,
            grads,
            self._hypers,
            max_norm,
            max_value,
            grad_scale,
            zero_grad,
            nonfinite,
            self._maximize,
            self._names,
        )

    def _grads(self) -> list[Array | None]:
        try:
            return [p.grad for p in self._parameters]
        except AttributeError:
            without = next(i for i, p in enumerate(self._parameters) if not hasattr(p, "grad"))
            raise TypeError(
                f"{self._name}: 'grads' is None and parameter {without} has no .grad; pass the "
                "gradients: step(grads)"
            ) from None

    def zero_grad(self) -> None:
        """Fills the gradients of ``Parameter``s and tensors with zeros, where they exist."""
        for parameter in self._parameters:
            grad = getattr(parameter, "grad", None)
            if grad is not None:
                grad[...] = 0

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Adds parameters with options of their own; their state starts from zero.

        Args:
            group: dict with "params" and any options.

        Raises:
            ValueError: a parameter that is there already, or overlaps one; nothing is changed.
        """
        before, plan = len(self._parameters), self._plan
        self._append(group)
        try:
            self._prepare()
        except (TypeError, ValueError):
            del self.param_groups[-1]
            for entries in (self._parameters, self._names, self._arrays, *self._states.values()):
                del entries[before:]
            self._plan, self._plan_is_current = plan, True  # with the step counts
            raise

    # ---- saving

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's layout: {"state": {index: {"step": t, name: array}}, "param_groups": […]}.

        The arrays are the optimizer's own, not copies. Parameters that never had a gradient have no
        entry.
        """
        names = _present(self._rule()[1])
        state = {
            index: {"step": step, **{name: self._states[name][index] for name in names}}
            for index, step in enumerate(self._prepare().steps)
            if step > 0
        }
        groups, first = [], 0
        for group in self.param_groups:
            count = len(group["params"])
            options = {key: value for key, value in group.items() if key != "params"}
            groups.append({**options, "params": list(range(first, first + count))})
            first += count
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what :meth:`state_dict` (or PyTorch's) gave; values are copied in.

        Args:
            state_dict: of an optimizer of the same kind over parameters of the same shapes.

        Raises:
            ValueError: another number of groups or parameters, missing or misshapen entries;
                nothing is changed.
        """
        groups, entries = self._checked(state_dict)
        for group, saved in zip(self.param_groups, groups, strict=True):
            group.update({key: value for key, value in saved.items() if key != "params"})
        plan = self._prepare()
        names = _present(self._rule()[1])
        steps = [0] * len(self._arrays)
        for index, entry in entries.items():
            steps[index] = entry["step"]
        for index in range(len(self._arrays)):
            for name in names:
                value = entries[index][name] if index in entries else None
                copy_into(self._states[name][index], 0 if value is None else value)
        plan.steps = steps

    def _checked(self, state_dict: Mapping[str, Any]) -> tuple[list[Any], dict[int, Any]]:
        def refuse(why: str) -> ValueError:
            return ValueError(f"{self._name}.load_state_dict: {why}; nothing was changed")

        try:
            groups = [dict(group) for group in state_dict["param_groups"]]
            state = dict(state_dict["state"])
            flat = [index for group in groups for index in group["params"]]
        except (KeyError, TypeError, ValueError):
            raise refuse(
                "expected a dict with 'state' and 'param_groups' as state_dict() gives"
            ) from None
        sizes = [len(group["params"]) for group in groups]
        expected = [len(group["params"]) for group in self.param_groups]
        if sizes != expected:
            raise refuse(f"groups have {sizes} parameters, expected {expected}")
        options = set(self._defaults) - set(self._identity)
        for group, own in zip(groups, self.param_groups, strict=True):
            if missing := sorted(options - set(group)):
                raise refuse(f"a group lacks {', '.join(missing)}: a state of another optimizer?")
            for key in self._identity:
                if bool(group.setdefault(key, own[key])) != bool(own[key]):
                    raise refuse(
                        f"{key!r} is {group[key]!r}, expected {own[key]!r}: a state of another "
                        "optimizer?"
                    )
        names = _present(self._rule_of(groups)[1])
        position = {index: at for at, index in enumerate(flat)}
        entries: dict[int, Any] = {}
        for index, entry in state.items():
            if index not in position:
                raise refuse(f"state for parameter {index}, which no group names")
            at = position[index]
            if not isinstance(entry, Mapping):
                raise refuse(f"the state of {index} is {type(entry).__name__}, expected a dict")
            filled = {key: value for key, value in entry.items() if value is not None}
            if not filled:
                continue
            if missing := [name for name in names if name not in filled]:
                raise refuse(f"parameter {index} lacks {', '.join(missing)}: another optimizer?")
            shape = tuple(self._arrays[at].shape)
            for name in names:
                if not (_is_array(filled[name]) and is_floating(filled[name])):
                    raise refuse(f"{name!r} of {index} is no array of floats")
                if tuple(filled[name].shape) != shape:
                    given = tuple(filled[name].shape)
                    raise refuse(f"{name!r} of {index} has shape {given}, expected {shape}")
            filled["step"] = step = _count(filled.get("step", 1))  # torch's SGD counts no steps
            if step < 1:
                raise refuse(f"'step' of {index} is {entry.get('step')!r}, expected a count >= 1")
            entries[at] = filled
        return groups, entries

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the plan, which holds addresses: for pickle and copy."""
        assert self._plan is not None
        state = {**self.__dict__, "_plan": None, "_holders": []}
        return {**state, "_steps": self._plan.steps}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        steps = self.__dict__.pop("_steps")
        self._plan = self._replan(*self._wanted)
        self._plan.steps = steps

    def __repr__(self) -> str:
        lines = [f"{self._name} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])

    # ---- inside

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _append(self, group: Mapping[str, Any]) -> None:
        if "params" not in group:
            raise ValueError(f"{self._name}: a group has no 'params' entry")
        if unknown := sorted(set(group) - set(self._defaults) - {"params"}):
            raise TypeError(f"{self._name}: unknown option {unknown[0]!r} in a parameter group")
        params = group["params"]
        entries = (
            list(params) if isinstance(params, Iterable) and not _is_array(params) else [params]
        )
        if not entries:
            raise ValueError(f"{self._name}: 'params' is empty, expected at least one parameter")
        pairs = [e if isinstance(e, tuple) and len(e) == 2 else (None, e) for e in entries]
        if not all(getattr(p, "is_leaf", True) for _, p in pairs):
            raise ValueError(f"{self._name}: a parameter is the result of an operation, not a leaf")
        filled = {**self._defaults, **group, "params": [p for _, p in pairs]}
        self._hyper(filled)
        self.param_groups.append(filled)
        self._names += [name for name, _ in pairs]
        self._parameters += filled["params"]
        self._arrays += [_data(p) for p in filled["params"]]
        self._plan_is_current = False

    def _rule_of(self, groups: list[dict[str, Any]]) -> tuple[str, tuple[str | None, ...]]:
        held, self.param_groups = self.param_groups, groups
        try:
            for group in groups:
                self._hyper(group)
            return self._rule()
        finally:
            self.param_groups = held

    def _uniform(self, option: str) -> bool:
        """An option that one launch cannot vary between groups."""
        values = {bool(group[option]) for group in self.param_groups}
        if len(values) > 1:
            raise ValueError(
                f"{self._name}: {option!r} differs between groups; use one optimizer for each"
            )
        return values.pop()

    def _prepare(self) -> _C.Plan:
        """The plan of a step: rebuilt when the kernel or an array has changed."""
        options = [*map(self._read_options, self.param_groups)]
        if options != self._options:
            self._derive(options)
        for parameter, array in self._holders:
            if parameter.data is not array:
                self._plan_is_current = False
        if self._plan is None or not self._plan_is_current:
            self._plan = self._replan(*self._wanted)
        return self._plan

    def _derive(self, options: list[tuple[Any, ...]]) -> None:
        """What follows from the options of all groups."""
        maximize, wanted = self._uniform("maximize"), self._rule()
        hypers = [self._hyper(group) for group in self.param_groups]
        self._plan_is_current = self._plan_is_current and self._wanted == wanted
        self._maximize, self._wanted, self._hypers = maximize, wanted, hypers
        # A list or an array may get other contents and stay the same object: derived every time.
        frozen = all(isinstance(v, _FROZEN) for values in options for v in values)
        self._options = options if frozen else None

    def _replan(self, kernel: str, names: tuple[str | None, ...]) -> _C.Plan:
        arrays = [_data(p) for p in self._parameters]
        for name in _present(names):
            held = self._states.get(name, [])
            kept = [brought_to(array, state) for array, state in zip(arrays, held, strict=False)]
            self._states[name] = kept + _new_states(arrays[len(kept) :])
        groups = [number for number, g in enumerate(self.param_groups) for _ in g["params"]]
        states = [None if name is None else self._states[name] for name in names]
        plan = _C.Plan(kernel, arrays, states, groups)
        if self._plan is not None:
            old = self._plan.steps
            plan.steps = old + [0] * (len(arrays) - len(old))
        self._arrays, self._plan_is_current = arrays, True
        self._holders = [
            (p, a)
            for p, a in zip(self._parameters, arrays, strict=True)
            if isinstance(p, Parameter)
        ]
        return plan


def _present(names: Iterable[str | None]) -> list[str]:
    return [name for name in names if name is not None]


def _is_array(value: object) -> bool:
    return isinstance(value, Parameter) or (hasattr(value, "dtype") and hasattr(value, "shape"))


def _count(step: Any) -> int:
    """A step count saved as a number or a 0-d array; -1 for anything else."""
    try:
        number = float(step)
    except (TypeError, ValueError, RuntimeError):
        return -1
    return int(step) if number.is_integer() else -1


def _data(parameter: Any) -> Array:
    return parameter.data if isinstance(parameter, Parameter) else parameter


def _new_states(arrays: Sequence[Array]) -> list[Array]:
    """Zeros of the computing type for each parameter.

    Contiguous parameters share one buffer, so that a step walks one stretch of memory; others get
    state of their own layout, so that a step over a dense permuted parameter stays one dense run.
    """
    states: list[Array] = [None] * len(arrays)
    together: dict[Any, list[int]] = {}
    for index, array in enumerate(arrays):
        dtype = parameter_dtype(array)
        if is_contiguous(array):
            key = (type(array), str(dtype), str(getattr(array, "device", "cpu")))
            together.setdefault(key, []).append(index)
        else:
            states[index] = zeros_like(array, dtype)
    for indices in together.values():
        like = arrays[indices[0]]
        sizes = [_size(arrays[i]) for i in indices]
        buffer = zeros((sum(map(_padded, sizes)),), parameter_dtype(like), like)
        start = 0
        for index, size in zip(indices, sizes, strict=True):
            states[index] = buffer[start : start + size].reshape(tuple(arrays[index].shape))
            start += _padded(size)
    return states


def _size(array: Array) -> int:
    size = 1
    for extent in array.shape:
        size *= int(extent)
    return size


def _padded(size: int) -> int:
    return (size + 15) // 16 * 16  # 64-byte lines of float32
