"""A step: one call of the extension for a whole list of arrays, and its options.

The functions of ``ops`` make a plan for one step (_declare_update.py); an optimizer of ``optim``
keeps its plan. Both call `take_step`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from onepass import _C
from onepass._array import Array
from onepass._numbers import as_float, flag, one_of
from onepass.ops._rule import UPDATES
from onepass.ops._step_info import StepInfo, on_device

Nonfinite = Literal["propagate", "skip", "raise"]
_NONFINITE = get_args(Nonfinite)
_PROPAGATE: Nonfinite = "propagate"
_CUDA = 2  # kDLCUDA
_NOTHING_TO_TELL = StepInfo(False, None, None)


class Controls(NamedTuple):
    """The options of one step; `Optimizer.step` describes them."""

    max_norm: float | Array | None = None
    max_value: float | None = None
    grad_scale: float | Array | None = None
    zero_grad: bool = False
    nonfinite: Nonfinite = _PROPAGATE
    maximize: bool = False


PLAIN = Controls()


def take_step(
    op: str,
    plan: _C.Plan,
    grads: Sequence[Array | None],
    hyper: Sequence[tuple[float, ...]],
    controls: Controls = PLAIN,
    names: Sequence[str | None] = (),
) -> StepInfo:
    """Checks the options of a step and runs the plan.

    Args:
        op: whom messages name.
        names: of the parameters, for messages.
    """
    max_norm, max_value, grad_scale, zero_grad, nonfinite, maximize = controls
    unscale: float | Array = 1.0
    if max_norm is not None and not is_on_device(max_norm):
        max_norm = positive(op, "max_norm", max_norm)
    if max_value is not None:
        max_value = positive(op, "max_value", max_value)
    if grad_scale is not None and is_on_device(grad_scale):
        unscale = grad_scale  # the plan divides by it there
    elif grad_scale is not None:
        scale = positive(op, "grad_scale", grad_scale)
        if scale == math.inf:
            raise ValueError(f"{op}: 'grad_scale' is inf, expected a finite number > 0, or None")
        unscale = 1.0 / scale
    if zero_grad is not False:
        zero_grad = flag(op, "zero_grad", zero_grad)
    if maximize is not False:
        maximize = flag(op, "maximize", maximize)
    checks = raises = False
    if nonfinite is not _PROPAGATE:
        one_of(op, "nonfinite", nonfinite, _NONFINITE)
        checks, raises = nonfinite != "propagate", nonfinite == "raise"
    try:
        skipped, norm, index = plan.step(
            grads, hyper, unscale, max_value, max_norm, checks, zero_grad, maximize, not raises
        )
    except TypeError:
        _refuse_sparse(op, grads)
        raise
    if skipped is None:
        info = on_device(norm, index, max_norm is not None, checks)
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


def is_on_device(value: Any) -> bool:
    """Whether a number is an array in CUDA memory, which a step there reads without waiting."""
    where = None if type(value) is float else getattr(value, "__dlpack_device__", None)
    return where is not None and int(where()[0]) == _CUDA


def positive(op: str, name: str, value: Any) -> float:
    expected = "a number > 0, or None"
    number = as_float(op, name, value, expected)
    if not number > 0:
        raise ValueError(f"{op}: {name!r} is {value!r}, expected {expected}")
    return number


def described(op: str, max_norm: Any, zero_grad: Any, nonfinite: Any) -> Controls:
    """Checked options of a step that is only talked about."""
    if max_norm is not None:
        max_norm = positive(op, "max_norm", max_norm)
    one_of(op, "nonfinite", nonfinite, _NONFINITE)
    zero_grad = flag(op, "zero_grad", zero_grad)
    return Controls(max_norm, zero_grad=zero_grad, nonfinite=nonfinite)


def controls_of(op: str, given: Mapping[str, Any]) -> Controls:
    """The ``**options`` of a function of ``ops``."""
    if not given:
        return PLAIN
    if unknown := sorted(set(given).difference(Controls._fields)):
        raise TypeError(
            f"{op}: unknown option {unknown[0]!r}, expected one of {', '.join(Controls._fields)}"
        )
    return Controls(**given)


def was_skipped(info: StepInfo, nonfinite: Nonfinite) -> bool:
    """Whether the step was skipped. On a device this waits, but only where it may have been."""
    return nonfinite != _PROPAGATE and info.skipped


def row_of(kernel: str, **values: float) -> tuple[float, ...]:
    """A row of hyper-parameters by name, 0 where none is given; the plan adds the step."""
    names = [name for name in UPDATES[kernel]["hyper"] if name != "step"]
    assert values.keys() <= set(names), (kernel, values, names)
    return tuple(values.get(name, 0.0) for name in names)


def plain_sgd(lr: float, weight_decay: float, *, decoupled: bool = False) -> tuple[float, ...]:
    """A row for the kernel "sgd" without a buffer, p -= lr·(g + weight_decay·p), with any signs."""
    return row_of("sgd", lr=lr, weight_decay=weight_decay, decoupled_weight_decay=float(decoupled))
