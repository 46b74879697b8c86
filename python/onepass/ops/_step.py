"""A step: one launch for a whole list of arrays, and what it reports.

`run` is a function of ``ops``, which makes a plan for one step; an optimizer of ``optim`` keeps its
plan and calls `take_step`.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from onepass import _C
from onepass._array import Array, copy_into, is_floating
from onepass._cuda_memory import read_back
from onepass._docs import shares
from onepass._numbers import as_float, flag, one_of
from onepass.ops._ranges import SCALAR_RANGES
from onepass.ops._rule import UPDATES, Rule, State

Nonfinite = Literal["propagate", "skip", "raise"]
_PROPAGATE: Nonfinite = "propagate"


class StepInfo(NamedTuple):
    """The outcome of a step.

    A step on CUDA arrays leaves some attributes on the device: all of them with
    ``nonfinite="skip"``, ``grad_norm`` with ``max_norm``. Reading one of those waits for the step.
    If a CUDA graph captured the step, they describe the last replay.

    Attributes:
        skipped: True if a gradient was not finite and nothing was changed.
        grad_norm: global norm of the gradients after unscaling and before clipping; None without
            ``max_norm``.
        nonfinite_param: index of the first parameter whose gradient holds Inf or NaN; None if
            there is none or ``nonfinite`` is "propagate".
        loss: what the closure of ``step(closure)`` returned; None without one. Not part of the
            tuple.
    """

    skipped: bool
    grad_norm: float | None
    nonfinite_param: int | None

    @property
    def loss(self) -> Any:
        """The result of the closure of ``step(closure)``; None without one."""
        return getattr(self, "_loss", None)


F = TypeVar("F", bound=Callable[..., StepInfo])
RULES: dict[str, Rule] = {}  # by kernel
Arrays = Sequence[Array]
Grads = Sequence[Array | None]
Factors = Sequence[Array | None]  # None: not of that parameter
Steps = int | Sequence[int]
Betas = tuple[float, float]

shared_docs = shares(
    {
        "params": "arrays of any shapes, strides and dtypes float32, float64, float16, bfloat16.",
        "grads": "one per parameter, or None to leave that parameter alone.",
        "exp_avgs": "m, like ``params`` (float32 for 16-bit parameters).",
        "exp_avg_sqs": "v, likewise.",
        "step": "t, the number of this step: 1 on the first call; a number, or one per parameter.",
        "**options": "``max_norm``, ``max_value``, ``grad_scale``, ``zero_grad``, ``nonfinite``,\n"
        "        ``maximize`` as in ``onepass.optim``; ``compat``, the library whose formula\n"
        "        to follow (the defaults stay).",
    },
    Returns="StepInfo; all arrays are updated in place, in one launch.",
    Raises="ValueError: hyper-parameters out of range, mismatched lists or shapes, overlapping\n"
    "        arrays; nothing is changed.\n"
    "    TypeError: wrong dtypes, or a list of states that is None.",
)
_NOTHING_TO_TELL = StepInfo(False, None, None)


class _OwnStepInfo(StepInfo):
    """A StepInfo with room for a loss."""

    _loss: Any

    def __repr__(self) -> str:
        return repr(StepInfo(*self))


def with_loss(info: StepInfo, loss: Any) -> StepInfo:
    """``info`` of a step before which a closure returned ``loss``."""
    own = info if isinstance(info, _OwnStepInfo) else _OwnStepInfo(*info)
    own._loss = loss
    return own


class _DeviceStepInfo(_OwnStepInfo):
    """A StepInfo that lies on a device; each look at it copies it from there."""

    _read: Callable[[], StepInfo]

    def __new__(cls, read: Callable[[], StepInfo]) -> _DeviceStepInfo:
        self = super().__new__(cls, False, None, None)
        self._read = read
        return self

    skipped = property(lambda self: self._read().skipped)
    grad_norm = property(lambda self: self._read().grad_norm)
    nonfinite_param = property(lambda self: self._read().nonfinite_param)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._read())

    def __getitem__(self, key: Any) -> Any:
        return self._read()[key]

    def __eq__(self, other: object) -> bool:
        return tuple(self) == (tuple(other) if isinstance(other, tuple) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._read())

    def __repr__(self) -> str:
        return repr(self._read())

    def __reduce__(self) -> Any:
        return StepInfo, tuple(self)


def _on_device(
    result: Array, where: tuple[tuple[int, ...], int, int], clips: bool, checks: bool
) -> StepInfo:
    """The StepInfo of a step whose ``result`` is a NormResult (csrc/core/backend.h) on a device."""
    positions, device, stream = where

    def read() -> StepInfo:
        host = read_back(result, device, stream)
        first = int(host.view(np.int64)[2])
        index = positions[first] if checks and first >= 0 else None
        return StepInfo(index is not None, float(host[0]) if clips else None, index)

    return _DeviceStepInfo(read)


def take_step(
    op: str,
    plan: _C.Plan,
    grads: Sequence[Array | None],
    hyper: Sequence[tuple[float, ...]],
    max_norm: float | None = None,
    max_value: float | None = None,
    grad_scale: float | None = None,
    zero_grad: bool = False,
    nonfinite: Nonfinite = _PROPAGATE,
    maximize: bool = False,
    names: Sequence[str | None] = (),
) -> StepInfo:
    """Checks the options of a step and runs the plan."""
    unscale = 1.0
    if max_norm is not None:
        max_norm = _positive(op, "max_norm", max_norm)
    if max_value is not None:
        max_value = _positive(op, "max_value", max_value)
    if grad_scale is not None:
        scale = _positive(op, "grad_scale", grad_scale)
        if scale == math.inf:
            raise ValueError(f"{op}: 'grad_scale' is inf, expected a finite number > 0, or None")
        unscale = 1.0 / scale
    if zero_grad is not False:
        zero_grad = flag(op, "zero_grad", zero_grad)
    if maximize is not False:
        maximize = flag(op, "maximize", maximize)
    checks = raises = False
    if nonfinite is not _PROPAGATE:
        one_of(op, "nonfinite", nonfinite, ("propagate", "skip", "raise"))
        checks, raises = nonfinite != "propagate", nonfinite == "raise"
    try:
        skipped, norm, index = plan.step(
            grads, hyper, unscale, max_value, max_norm, checks, zero_grad, maximize, not raises
        )
    except TypeError:
        _refuse_sparse(op, grads)
        raise
    if skipped is None:
        info = _on_device(norm, index, max_norm is not None, checks)
        if not raises:
            return info
        skipped, norm, index = info
    if skipped and raises:
        name = names[index] if index is not None and index < len(names) else None
        raise FloatingPointError(
            f"{op}: the gradient of parameter {index}{f' ({name})' if name else ''} is not finite; "
            "nothing was changed. Lower the learning rate or the gradient scale, or pass "
            "nonfinite='skip'"
        )
    if norm is None and not skipped:
        return _NOTHING_TO_TELL
    return StepInfo(skipped, norm, index if checks else None)


def _refuse_sparse(op: str, grads: Any) -> None:
    """A message of its own for a sparse gradient, which the border only finds unreadable."""
    for index, grad in enumerate(grads):
        of_torch = str(getattr(grad, "layout", "")).startswith("torch.sparse")
        if of_torch or hasattr(grad, "tocsr"):  # of SciPy
            raise TypeError(
                f"{op}: 'grads[{index}]' is a sparse {type(grad).__name__}, expected a dense "
                "array: make it dense, or pass sparse=False to the embedding"
            ) from None


def update(kernel: str, *states: State, **more: Any) -> Callable[[F], F]:
    """A decorator for the in-place function of ``kernel``: makes its rule, completes its docstring.

    Args:
        kernel: the function is named like it, with an underscore behind.
        *states: of the `Rule`, as ``more``.
    """
    rule = RULES[kernel] = Rule(kernel, *states, **more)

    def declare(function: F) -> F:
        _check_signature(function, rule)
        return shared_docs(function)

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
    meant = {*rule.compat["torch"], *rule.decided, *rule.switches}
    needed = {"step", *rule.reads} - meant
    for missing in sorted(needed - options):
        raise TypeError(f"{where} lacks the option {missing!r}, which 'hyper' of {kernel} has")
    for unread in sorted(options - needed):
        raise TypeError(f"{where} has the option {unread!r}, which 'hyper' of {kernel} lacks")
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise TypeError(f"{where} lacks **options, those of every step: max_norm, zero_grad, …")


def run(kernel: str, given: Mapping[str, Any]) -> StepInfo:
    """One step of the in-place function of ``ops`` whose arguments are ``given``."""
    rule = RULES[kernel]
    op, params, grads = f"{rule.kernel}_", given["params"], given["grads"]
    options = given["options"]
    formula = rule.compat["torch"]
    if "compat" in options:
        options = {**options}
        formula = rule.formula(op, options.pop("compat"))
    hyper = rule.hyper(op, {**formula, **rule.meant(given), **given})
    states = rule.lists(op, given)
    for name, arrays in (("params", params), ("grads", grads)):
        if type(arrays) is not list and not isinstance(arrays, Sequence):
            raise TypeError(f"{op}: {name!r} is {arrays!r}, expected a list of arrays")
    options = step_options(op, options)
    taken = [count - 1 for count in counts_of(op, given["step"], len(params))]
    groups = [0] * len(params)
    if not rule.scalars:
        plan = _C.Plan(rule.kernel, params, states, groups, taken)
        return take_step(op, plan, grads, (hyper,), **options)
    scalars = {
        name: _numbers_of(op, f"{name}s", given[f"{name}s"], len(params)) for name in rule.scalars
    }
    # Where a device may skip the step, only the device can count.
    skips = options.get("nonfinite", "propagate") != "propagate"
    plan = _C.Plan(rule.kernel, params, states, groups, None if skips else taken)
    plan.scalars, plan.steps = scalars, taken
    info = take_step(op, plan, grads, (hyper,), **options)
    for name, values in plan.scalars.items():
        _put(given[f"{name}s"], values)
    return info


def plain_sgd(lr: float, weight_decay: float, *, decoupled: bool = False) -> tuple[float, ...]:
    """A row for the kernel "sgd" without a buffer, p -= lr·(g + weight_decay·p), with any signs."""
    given = {"lr": lr, "weight_decay": weight_decay, "decoupled_weight_decay": float(decoupled)}
    return tuple(given.get(name, 0.0) for name in UPDATES["sgd"]["hyper"] if name != "step")


def step_options(op: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The ``**options`` of a function of ``ops``, all of which `take_step` knows."""
    if given and (unknown := sorted(set(given).difference(_STEP_OPTIONS))):
        raise TypeError(
            f"{op}: unknown option {unknown[0]!r}, expected one of {', '.join(_STEP_OPTIONS)}"
        )
    return given


def was_skipped(info: StepInfo, nonfinite: Nonfinite) -> bool:
    """Whether the step was skipped. On a device this waits, but only where it may have been."""
    return nonfinite != _PROPAGATE and info.skipped


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


def _positive(op: str, name: str, value: Any) -> float:
    expected = "a number > 0, or None"
    number = as_float(op, name, value, expected)
    if not number > 0:
        raise ValueError(f"{op}: {name!r} is {value!r}, expected {expected}")
    return number


_STEP_OPTIONS = ("max_norm", "max_value", "grad_scale", "zero_grad", "nonfinite", "maximize")


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
