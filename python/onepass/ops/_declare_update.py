"""How an in-place function of ``ops`` is declared: its rule, its docstring, its step."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from onepass import _C
from onepass._array import Array, copy_into, is_floating
from onepass._docs import shares
from onepass._numbers import is_constant
from onepass.ops._ranges import SCALAR_RANGES
from onepass.ops._rule import OptionRule, Rule, State
from onepass.ops._step import controls_of, take_step
from onepass.ops._step_info import StepInfo

F = TypeVar("F", bound=Callable[..., StepInfo])
RULES: dict[str, OptionRule] = {}  # by kernel
Arrays = Sequence[Array]
Grads = Sequence[Array | None]
Factors = Sequence[Array | None]  # None: not of that parameter
Steps = int | Sequence[int]
Betas = tuple[float, float]

SHARED_DOCS = {
    "params": "arrays of any shapes, strides and dtypes float32, float64, float16, bfloat16.",
    "grads": "one per parameter, or None to leave that parameter alone.",
    "exp_avgs": "m, like ``params`` (float32 for 16-bit parameters).",
    "exp_avg_sqs": "v, likewise.",
    "step": "t, the number of this step: 1 on the first call; a number, or one per parameter.",
    "**options": "``max_norm``, ``max_value``, ``grad_scale``, ``zero_grad``, ``nonfinite``,\n"
    "        ``maximize`` as in ``onepass.optim``; ``compat``, the library whose formula\n"
    "        to follow (the defaults stay).",
}


def shared_docs(own: Mapping[str, str] | None = None) -> Callable[[F], F]:
    """A decorator that completes the docstring of an in-place function.

    Args:
        own: what the functions of its file alone share.
    """
    return shares(
        {**SHARED_DOCS, **(own or {})},
        Returns="StepInfo; all arrays are updated in place.",
        Raises="ValueError: hyper-parameters out of range, mismatched lists or shapes,\n"
        "        overlapping arrays; nothing is changed.\n"
        "    TypeError: wrong dtypes, or a list of states that is None.",
    )


def update(
    kernel: str, *states: State, docs: Mapping[str, str] | None = None, **more: Any
) -> Callable[[F], F]:
    """A decorator for the in-place function of ``kernel``: makes its rule, completes its docstring.

    Args:
        kernel: the function is named like it, with an underscore behind.
        *states: of the `Rule`, as ``more``.
        docs: of `shared_docs`.
    """
    rule = RULES[kernel] = Rule(kernel, *states, **more)

    def declare(function: F) -> F:
        _check_signature(function, rule)
        return shared_docs(docs)(function)

    return declare


def _check_signature(function: Callable[..., Any], rule: Rule) -> None:
    """TypeError for a function of ``ops`` that does not take what its kernel reads."""
    parameters = inspect.signature(function).parameters.values()
    where = f"{function.__module__}: {function.__name__}"
    kernel = f"the rule {rule.kernel!r} (csrc/kernels/update_list.h)"
    lists = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    want = ["params", "grads", *(state.plural for state in rule.states)]
    want += [f"{scalar}s" for scalar in rule.scalars]
    if lists != want:
        raise TypeError(
            f"{where} takes the lists {', '.join(lists)}, expected {', '.join(want)}, the "
            f"operands, optional states and scalars of {kernel} in their order"
        )
    options = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    needed = {"step", *rule.asked}
    for missing in sorted(needed - options):
        raise TypeError(f"{where} lacks the option {missing!r}, which 'hyper' of {kernel} has")
    for unread in sorted(options - needed):
        raise TypeError(f"{where} has the option {unread!r}, which 'hyper' of {kernel} lacks")
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise TypeError(f"{where} lacks **options, those of every step: max_norm, zero_grad, …")


def run(kernel: str, given: Mapping[str, Any]) -> StepInfo:
    """One step of the in-place function of ``ops`` whose arguments are ``given``."""
    rule = RULES[kernel]
    assert isinstance(rule, Rule)
    op, params, grads = f"{rule.kernel}_", given["params"], given["grads"]
    options = given["options"]
    compat = "torch"
    if "compat" in options:
        options = {**options}
        compat = options.pop("compat")
    hyper = _hyper_of(rule, op, given, compat)
    states = rule.lists(op, given)
    for name, arrays in (("params", params), ("grads", grads)):
        if type(arrays) is not list and not isinstance(arrays, Sequence):
            raise TypeError(f"{op}: {name!r} is {arrays!r}, expected a list of arrays")
    controls = controls_of(op, options)
    step = given["step"]
    if type(step) is int and step > 0:
        taken = [step - 1] * len(params)
    else:
        taken = [count - 1 for count in counts_of(op, step, len(params))]
    groups = [0] * len(params)
    if not rule.scalars:
        plan = _C.Plan(rule.kernel, params, states, groups, taken, None, op)
        return take_step(op, plan, grads, (hyper,), controls)
    scalars = {
        name: _numbers_of(op, f"{name}s", given[f"{name}s"], len(params)) for name in rule.scalars
    }
    # Where a device may skip the step, only the device can count.
    skips = controls.nonfinite != "propagate"
    plan = _C.Plan(rule.kernel, params, states, groups, None if skips else taken, None, op)
    plan.scalars, plan.steps = scalars, taken
    info = take_step(op, plan, grads, (hyper,), controls)
    for name, values in plan.scalars.items():
        _put(given[f"{name}s"], values)
    return info


# Kernel → the options of its last call, and the hyper-parameters that they gave: a loop passes the
# same objects again, and to check them takes longer than to update 16,000 elements.
_KNOWN: dict[str, tuple[list[Any], tuple[float, ...]]] = {}


def _hyper_of(rule: Rule, op: str, given: Mapping[str, Any], compat: Any) -> tuple[float, ...]:
    """The hyper-parameters of a call."""
    asked = [compat, *[given[name] for name in rule.asked]]
    asked += [given[state.plural] is None for state in rule.switches.values()]
    known = _KNOWN.get(op)
    if known is not None and all(map(operator.is_, asked, known[0])):
        return known[1]
    hyper = rule.hyper(op, {**rule.formula(op, compat), **rule.meant(given), **given})
    if all(map(is_constant, asked)):
        _KNOWN[op] = asked, hyper
    return hyper


def _numbers_of(op: str, name: str, given: Any, count: int) -> list[float]:
    """The numbers in a list that the step will write to."""
    expected = "a list with a number or a 0-d array of floats for each parameter"
    if not isinstance(given, list):
        raise TypeError(f"{op}: {name!r} is {given!r}, expected {expected}, which the step updates")
    if len(given) != count:
        raise ValueError(f"{op}: {name!r} has {len(given)} entries, expected {count}")
    limits = SCALAR_RANGES[name.removesuffix("s")]
    numbers = []
    for i, value in enumerate(given):
        entry = f"{name}[{i}]"
        if _is_written(value):
            flags = getattr(value, "flags", None)
            if tuple(value.shape) != () or not is_floating(value):
                raise TypeError(f"{op}: {entry!r} is {value!r}, expected a number or a 0-d array")
            if not getattr(flags, "writeable", True):
                raise ValueError(f"{op}: {entry!r} is read-only, and the step updates it")
        numbers.append(limits.check(op, entry, value))
    return numbers


def _put(given: list[Any], values: Sequence[float]) -> None:
    for i, value in enumerate(values):
        if _is_written(given[i]):
            copy_into(given[i], value)
        else:
            given[i] = value


def _is_written(value: Any) -> bool:
    """An array, which the step writes to; a number in a list is replaced."""
    return hasattr(value, "shape") and not isinstance(value, np.generic)


def counts_of(op: str, step: Any, parameters: int) -> list[int]:
    try:
        counts = [operator.index(s) for s in (step if isinstance(step, Sequence) else [step])]
    except TypeError:
        raise TypeError(
            f"{op}: 'step' is {step!r}, expected an integer or a list with one for each parameter"
        ) from None
    if min(counts, default=1) < 1:
        raise ValueError(f"{op}: 'step' is {step!r}, expected 1 on the first call")
    return counts if isinstance(step, Sequence) else counts * parameters
