"""Optimizer updates: one launch for a whole list of arrays."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from onepass import _C
from onepass._array import Array, read_back

Nonfinite = Literal["propagate", "skip", "raise"]


class StepInfo(NamedTuple):
    """What a step did.

    Of a step on CUDA arrays, reading an attribute that only the device knows (all of them with
    ``nonfinite="skip"``, ``grad_norm`` with ``max_norm``) waits for the step; not reading it waits
    for nothing. Of a step captured in a CUDA graph they tell of the last replay.

    Attributes:
        skipped: nothing was changed, because a gradient was not finite.
        grad_norm: global norm of the gradients after unscaling and before clipping; None without
            ``max_norm``.
        nonfinite_param: index of the first parameter whose gradient holds Inf or NaN; None where
            there is none or ``nonfinite`` is "propagate".
    """

    skipped: bool
    grad_norm: float | None
    nonfinite_param: int | None


_NOTHING_TO_TELL = StepInfo(False, None, None)


class _DeviceStepInfo(StepInfo):
    """A StepInfo that lies on a device, and is copied from there whenever it is looked at."""

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
    """The info of a step whose ``result`` is a NormResult of csrc/core/backend.h on a device."""
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
    nonfinite: Nonfinite = "propagate",
    maximize: bool = False,
    names: Sequence[str | None] = (),
) -> StepInfo:
    """Checks the options of a step and runs the plan; shared by the functions and ``optim``."""
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
    if nonfinite not in ("propagate", "skip", "raise"):
        raise ValueError(
            f"{op}: 'nonfinite' is {nonfinite!r}, expected 'propagate', 'skip' or 'raise'"
        )
    checks = nonfinite != "propagate"
    raises = nonfinite == "raise"
    skipped, norm, index = plan.step(
        grads, hyper, unscale, max_value, max_norm, checks, zero_grad, maximize, not raises
    )
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


def _number(op: str, name: str, value: Any, expected: str) -> float:
    try:
        if not isinstance(value, str):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{op}: {name!r} is {value!r}, {expected}")


def _positive(op: str, name: str, value: Any) -> float:
    expected = "expected a number > 0, or None"
    number = _number(op, name, value, expected)
    if not number > 0:
        raise ValueError(f"{op}: {name!r} is {value!r}, {expected}")
    return number


def check_range(op: str, name: str, value: Any, low: float, high: float = math.inf) -> float:
    """value in [low, high), finite; else ValueError with the value, the range and the name."""
    upper = "" if high == math.inf else f" and < {high:g}"
    expected = "expected a finite number" if low == -math.inf else f"expected a number >= {low:g}"
    expected += upper
    number = _number(op, name, value, expected)
    if not (low <= number < high and math.isfinite(number)):
        raise ValueError(f"{op}: {name!r} is {value!r}, {expected}")
    return number


def sgd_hyper(
    op: str, lr: Any, momentum: Any, dampening: Any, weight_decay: Any, nesterov: bool
) -> tuple[float, ...]:
    """Checked hyper-parameters in the order of kernels/sgd.h, without the step."""
    factor = check_range(op, "momentum", momentum, 0)
    damp = check_range(op, "dampening", dampening, -math.inf)
    if nesterov and (factor == 0 or damp != 0):
        raise ValueError(
            f"{op}: 'nesterov' needs momentum > 0 and dampening = 0, given momentum={momentum!r}, "
            f"dampening={dampening!r}"
        )
    rate = check_range(op, "lr", lr, 0)
    decay = check_range(op, "weight_decay", weight_decay, 0)
    if factor == 0:  # beside a group that has momentum: a buffer that forgets
        damp = 0.0
    return rate, factor, damp, decay, float(bool(nesterov))


def adam_hyper(
    op: str, lr: Any, betas: Sequence[Any], eps: Any, weight_decay: Any
) -> tuple[float, ...]:
    """Checked hyper-parameters in the order of kernels/adam.h, without the step."""
    try:
        beta1, beta2 = betas
    except (TypeError, ValueError):
        raise ValueError(f"{op}: 'betas' is {betas!r}, expected a pair of numbers") from None
    return (
        check_range(op, "lr", lr, 0),
        check_range(op, "betas[0]", beta1, 0, 1),
        check_range(op, "betas[1]", beta2, 0, 1),
        check_range(op, "eps", eps, 0),
        check_range(op, "weight_decay", weight_decay, 0),
    )


_STEP_OPTIONS = ("max_norm", "max_value", "grad_scale", "zero_grad", "nonfinite", "maximize")


def _counts(op: str, step: Any, parameters: int) -> list[int]:
    try:
        counts = [operator.index(s) for s in (step if isinstance(step, Sequence) else [step])]
    except TypeError:
        raise TypeError(
            f"{op}: 'step' is {step!r}, expected an integer or a list with one for each parameter"
        ) from None
    if min(counts, default=1) < 1:
        raise ValueError(f"{op}: 'step' is {step!r}, expected 1 on the first call")
    return counts if isinstance(step, Sequence) else counts * parameters


def _update(
    op: str,
    kernel: str,
    params: Sequence[Array],
    grads: Sequence[Array | None],
    states: Sequence[Sequence[Array] | None],
    hyper: tuple[float, ...],
    step: int | Sequence[int],
    options: dict[str, Any],
) -> StepInfo:
    for name, arrays in (("params", params), ("grads", grads)):
        if not isinstance(arrays, Sequence):
            raise TypeError(f"{op}: {name!r} is {arrays!r}, expected a list of arrays")
    if unknown := sorted(set(options) - set(_STEP_OPTIONS)):
        raise TypeError(
            f"{op}: unknown option {unknown[0]!r}, expected one of {', '.join(_STEP_OPTIONS)}"
        )
    taken = [count - 1 for count in _counts(op, step, len(params))]
    plan = _C.Plan(kernel, params, states, [0] * len(params), taken)
    return take_step(op, plan, grads, (hyper,), **options)


def sgd_(
    params: Sequence[Array],
    grads: Sequence[Array | None],
    momentum_buffers: Sequence[Array] | None = None,
    *,
    step: int | Sequence[int] = 1,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    **options: Any,
) -> StepInfo:
    """g += weight_decay·p; b = momentum·b + (1 - dampening)·g; p -= lr·(g + momentum·b or b).

    The first step sets b = g. Without momentum p -= lr·g. All arrays in place, in one launch.

    Args:
        params: arrays of any shapes, strides and dtypes float32, float64, float16, bfloat16.
        grads: one per parameter, or None to leave that parameter alone.
        momentum_buffers: like ``params`` (float32 for 16-bit parameters); needed with momentum.
        step: 1 on the first call; a number, or one per parameter.
        lr: learning rate.
        momentum: μ.
        dampening: of the gradient in the buffer.
        weight_decay: L2 penalty.
        nesterov: look ahead by the momentum.
        **options: ``max_norm``, ``max_value``, ``grad_scale``, ``zero_grad``, ``nonfinite``,
            ``maximize`` as in ``onepass.optim``.

    Returns:
        StepInfo.

    Raises:
        ValueError: hyper-parameters out of range, mismatched lists or shapes, overlapping arrays;
            nothing is changed.
        TypeError: wrong dtypes.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning,
    2013; PyTorch's SGD.

    Example:
        >>> p = np.float32([1.0])
        >>> info = onepass.ops.sgd_([p], [np.float32([2.0])], lr=0.25)
        >>> p
        array([0.5], dtype=float32)
    """
    hyper = sgd_hyper("sgd_", lr, momentum, dampening, weight_decay, nesterov)
    if momentum != 0 and momentum_buffers is None:
        raise ValueError(
            "sgd_: 'momentum_buffers' is None, expected arrays like 'params', since momentum > 0"
        )
    states = [momentum_buffers if momentum != 0 else None]
    return _update("sgd_", "sgd", params, grads, states, hyper, step, options)


def adam_(
    params: Sequence[Array],
    grads: Sequence[Array | None],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    max_exp_avg_sqs: Sequence[Array] | None = None,
    *,
    step: int | Sequence[int] = 1,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    **options: Any,
) -> StepInfo:
    """Adam: m and v are running averages of g and g²; p -= lr·m̂/(√v̂ + eps).

    m += (1 - β₁)(g - m), v = β₂v + (1 - β₂)g², m̂ = m/(1 - β₁ᵗ), v̂ = v/(1 - β₂ᵗ), with
    g += weight_decay·p before. With ``max_exp_avg_sqs`` (AMSGrad) v̂ is the running maximum of v,
    corrected. All arrays in place, in one launch.

    Args:
        params: arrays of any shapes, strides and dtypes float32, float64, float16, bfloat16.
        grads: one per parameter, or None to leave that parameter alone.
        exp_avgs: m, like ``params`` (float32 for 16-bit parameters).
        exp_avg_sqs: v, likewise.
        max_exp_avg_sqs: the running maximum, likewise; None for plain Adam.
        step: t, 1 on the first call; a number, or one per parameter.
        lr: learning rate.
        betas: (β₁, β₂).
        eps: added to √v̂.
        weight_decay: L2 penalty.
        **options: ``max_norm``, ``max_value``, ``grad_scale``, ``zero_grad``, ``nonfinite``,
            ``maximize`` as in ``onepass.optim``.

    Returns:
        StepInfo.

    Raises:
        ValueError: hyper-parameters out of range, mismatched lists or shapes, overlapping arrays;
            nothing is changed.
        TypeError: wrong dtypes.

    Source: Kingma & Ba, Adam: A Method for Stochastic Optimization, 2014; Reddi et al., 2018.

    Example:
        >>> p, m, v = (np.zeros(1, np.float32) for _ in range(3))
        >>> info = onepass.ops.adam_([p], [np.float32([2.0])], [m], [v], step=1, lr=0.5)
        >>> p
        array([-0.5], dtype=float32)
    """
    return _adam("adam", params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, step,
                 (lr, betas, eps, weight_decay), options)  # fmt: skip


def adamw_(
    params: Sequence[Array],
    grads: Sequence[Array | None],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    max_exp_avg_sqs: Sequence[Array] | None = None,
    *,
    step: int | Sequence[int] = 1,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    **options: Any,
) -> StepInfo:
    """AdamW: p *= 1 - lr·weight_decay, then the step of :func:`adam_` on the plain gradient.

    Args:
        params: arrays of any shapes, strides and dtypes float32, float64, float16, bfloat16.
        grads: one per parameter, or None to leave that parameter alone.
        exp_avgs: m, like ``params`` (float32 for 16-bit parameters).
        exp_avg_sqs: v, likewise.
        max_exp_avg_sqs: the running maximum of v, likewise; None for plain AdamW.
        step: t, 1 on the first call; a number, or one per parameter.
        lr: learning rate.
        betas: (β₁, β₂).
        eps: added to √v̂.
        weight_decay: decoupled, scaled by lr.
        **options: ``max_norm``, ``max_value``, ``grad_scale``, ``zero_grad``, ``nonfinite``,
            ``maximize`` as in ``onepass.optim``.

    Returns:
        StepInfo.

    Raises:
        ValueError: hyper-parameters out of range, mismatched lists or shapes, overlapping arrays;
            nothing is changed.
        TypeError: wrong dtypes.

    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization, 2017.

    Example:
        >>> p, m, v = np.ones(1, np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32)
        >>> info = onepass.ops.adamw_([p], [np.float32([0.0])], [m], [v], lr=0.5, weight_decay=0.5)
        >>> p
        array([0.75], dtype=float32)
    """
    return _adam("adamw", params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, step,
                 (lr, betas, eps, weight_decay), options)  # fmt: skip


def _adam(
    rule: str,
    params: Sequence[Array],
    grads: Sequence[Array | None],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    max_exp_avg_sqs: Sequence[Array] | None,
    step: int | Sequence[int],
    hyper: tuple[Any, ...],
    options: dict[str, Any],
) -> StepInfo:
    checked = adam_hyper(f"{rule}_", *hyper)
    states = [exp_avgs, exp_avg_sqs, max_exp_avg_sqs]
    return _update(f"{rule}_", rule, params, grads, states, checked, step, options)
