"""SparseAdam: a step of Adam over the rows that gradients name, and nothing else.

The rows are copied together, stepped by Adam's kernel in one launch, and copied back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from onepass import _C
from onepass._array import Array, copy_into, is_floating, is_torch, library, to_numpy
from onepass._array import negative as negative_array
from onepass.ops._ranges import Limits, Range
from onepass.ops._rule import Launch, Options, Rule, State
from onepass.ops._step import (
    RULES,
    Arrays,
    Betas,
    StepInfo,
    Steps,
    counts_of,
    shared_docs,
    step_options,
    take_step,
    was_skipped,
)

Gradient = Any  # a pair (indices, values), or a sparse COO tensor
_LIMITS: dict[str, Limits] = {"eps": Range(above=0)}


class SparseRule(Rule):
    """Adam's rule without weight decay and AMSGrad, which would concern every row."""

    def __init__(self) -> None:
        # PyTorch adds eps to √v before the correction here.
        formula = {"torch": {"eps_hat": True}}
        maximum = State("max_exp_avg_sq", when="amsgrad")
        super().__init__("adam", maximum, ranges=_LIMITS, compat=formula)
        self.states, self.keys = self.states[:2], self.keys[:2]
        self.options, self.lr_leads = {"lr", "betas", "eps"}, False

    def hyper(self, owner: str, options: Options) -> tuple[float, ...]:
        fixed = {"weight_decay": 0.0, "bias_correction": True, **self.compat["torch"]}
        fixed |= {"decoupled_weight_decay": False, "amsgrad": False}
        return super().hyper(owner, {**options, **fixed})

    def launch(self, owner: str, groups: Sequence[Options]) -> Launch:
        return self.kernel, (*self.keys, None)


RULE = RULES["sparse_adam"] = SparseRule()


class Rows(NamedTuple):
    """A gradient whose rows differ: ``index`` picks them out of the parameter, in its library."""

    index: Any
    values: Array


def rows_of(op: str, index: int, param: Array, grad: Gradient) -> Rows:
    """The rows of a gradient, those of equal index summed.

    Raises:
        TypeError: no sparse gradient, or one of another kind than the parameter.
        ValueError: shapes that do not fit. IndexError: a row that the parameter does not have.
    """
    label = f"grads[{index}]"
    lib = library(param)
    if is_torch(lib):
        return _of_tensor(op, label, lib, param, grad)
    indices, values = _pair(op, label, grad)
    if hasattr(values, "detach") or not hasattr(values, "dtype"):
        raise TypeError(
            f"{op}: the values of {label!r} are a {type(values).__name__}, expected an array like "
            f"'params[{index}]', a {type(param).__name__}"
        )
    indices = lib.asarray(indices)
    _check(op, label, tuple(param.shape), indices, values)
    return Rows(*_summed(lib, indices, values))


def _of_tensor(op: str, label: str, torch: Any, param: Array, grad: Gradient) -> Rows:
    if not isinstance(grad, torch.Tensor):
        indices, values = _pair(op, label, grad)
        if not isinstance(values, torch.Tensor):
            raise TypeError(
                f"{op}: the values of {label!r} are a {type(values).__name__}, expected a tensor"
            )
        indices = torch.as_tensor(indices, device=values.device)
        _check(op, label, tuple(param.shape), indices, values)
        with torch.no_grad():
            grad = torch.sparse_coo_tensor(
                indices[None], values.detach(), tuple(param.shape), check_invariants=False
            )
    elif grad.layout is not torch.sparse_coo:
        _refuse_dense(op, label, grad)
    elif grad.shape != param.shape:
        raise ValueError(
            f"{op}: {label!r} has shape {tuple(grad.shape)}, expected {tuple(param.shape)}"
        )
    with torch.no_grad():
        grad = grad.coalesce()
        return Rows(tuple(grad.indices()), grad.values())


def _pair(op: str, label: str, grad: Any) -> tuple[Any, Any]:
    if not isinstance(grad, (tuple, list)) or len(grad) != 2:
        _refuse_dense(op, label, grad)
    return grad[0], grad[1]


def _refuse_dense(op: str, label: str, grad: Any) -> None:
    raise TypeError(
        f"{op}: {label!r} is a {type(grad).__name__}, expected a pair (indices, values) over axis "
        "0, or a sparse COO tensor; for dense gradients use Adam"
    )


def _check(op: str, label: str, shape: tuple[int, ...], indices: Any, values: Array) -> None:
    if not shape:
        raise ValueError(f"{op}: {label!r} is of a parameter of no axes, expected one with rows")
    kind = str(indices.dtype).rpartition(".")[2]
    if "int" not in kind or len(indices.shape) != 1:
        raise TypeError(
            f"{op}: the indices of {label!r} are {kind} of shape {tuple(indices.shape)}, expected "
            "whole numbers in one axis"
        )
    if not is_floating(values):
        raise TypeError(f"{op}: the values of {label!r} are {values.dtype}, expected floats")
    count = int(indices.shape[0])
    if tuple(values.shape) != (count, *shape[1:]):
        raise ValueError(
            f"{op}: the values of {label!r} have shape {tuple(values.shape)}, expected "
            f"{(count, *shape[1:])}, a row for each index"
        )
    if count and not (int(indices.min()) >= 0 and int(indices.max()) < shape[0]):
        wrong = next(int(i) for i in to_numpy(indices) if not 0 <= i < shape[0])
        raise IndexError(f"{op}: {label!r} has the index {wrong}, expected 0 <= index < {shape[0]}")


def _summed(lib: Any, indices: Array, values: Array) -> tuple[Array, Array]:
    """Indices that differ, and their rows; those that came first are added first."""
    if len(indices) < 2 or bool((indices[1:] > indices[:-1]).all()):
        return indices, values
    order = lib.argsort(indices, kind="stable")
    sorted_indices = indices[order]
    first = lib.ones(len(order), bool)
    first[1:] = sorted_indices[1:] != sorted_indices[:-1]
    if bool(first.all()):
        return indices, values
    wide = values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)
    sums = lib.add.reduceat(wide[order], lib.flatnonzero(first), axis=0)
    return sorted_indices[first], sums.astype(values.dtype, copy=False)


def take_rows(
    op: str,
    params: Sequence[Array],
    grads: Sequence[Gradient | None],
    states: Sequence[Sequence[Array]],
    hypers: Sequence[tuple[float, ...]],
    taken: Sequence[int],
    *,
    zero_grad: bool = False,
    **controls: Any,
) -> StepInfo:
    """One step; hyper-parameters and steps taken are one per parameter."""
    if len(grads) != len(params):
        raise ValueError(f"{op}: 'grads' has {len(grads)} entries, expected {len(params)}")
    rows = [
        None if grad is None else rows_of(op, index, p, grad)
        for index, (p, grad) in enumerate(zip(params, grads, strict=True))
    ]
    lists = [
        [a if r is None else _get(a, r.index) for a, r in zip(arrays, rows, strict=True)]
        for arrays in (params, *states)
    ]
    plan = _C.Plan("adam", lists[0], [*lists[1:], None], list(range(len(params))), list(taken))
    values = [None if r is None else r.values for r in rows]
    info = take_step(op, plan, values, hypers, **controls)
    if not was_skipped(info, controls.get("nonfinite", "propagate")):
        for arrays, stepped in zip((params, *states), lists, strict=True):
            for whole, part, r in zip(arrays, stepped, rows, strict=True):
                if r is not None:
                    _put(whole, r.index, part)
    if zero_grad:
        for grad in grads:
            if grad is not None:
                zero(grad)
    return info


def _get(array: Array, index: Any) -> Array:
    lib = library(array)
    if is_torch(lib):
        return array.detach()[index]
    return array[index]


def _put(array: Array, index: Any, rows: Array) -> None:
    lib = library(array)
    if is_torch(lib):
        with lib.no_grad():
            array.index_put_(index, rows)
    else:
        array[index] = rows


def zero(grad: Gradient) -> None:
    """Fills the values of a gradient with zeros."""
    if isinstance(grad, (tuple, list)):
        copy_into(grad[1], 0.0)
    else:
        grad.detach()._values().zero_()


def negative(grad: Gradient) -> Gradient:
    """A copy with the other sign."""
    if isinstance(grad, (tuple, list)):
        return grad[0], negative_array(grad[1])
    return -grad


@shared_docs
def sparse_adam_(
    params: Arrays,
    grads: Sequence[Gradient | None],
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    *,
    step: Steps = 1,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    **options: Any,
) -> StepInfo:
    """m += (1 - β₁)(g - m), v = β₂v + (1 - β₂)g², p -= lr·√(1 - β₂ᵗ)/(1 - β₁ᵗ)·m/(√v + eps).

    Of rows without gradient neither p nor m and v move, as if they had not been part of the model:
    Adam would decay their m and v, and move p by m. Rows of equal index are summed first, in the
    order given. The rows are copied together and back; the step between is one launch.

    Args:
        params: arrays of one axis or more.
        grads: pairs (indices, values): values[j] is the gradient of params[i][indices[j]]; or
            sparse COO tensors; or None.
        eps: added to √v.

    Returns:
        StepInfo; all arrays are updated in place.

    Raises:
        ValueError: hyper-parameters out of range, mismatched lists or shapes; nothing is changed.
        TypeError: a dense gradient, or wrong dtypes.
        IndexError: a row that a parameter does not have.

    Source: Kingma & Ba, Adam: A Method for Stochastic Optimization, 2014; PyTorch's SparseAdam.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> p, m, v = (np.zeros((3, 1), np.float32) for _ in range(3))
        >>> grad = (np.array([2, 2]), np.float32([[1], [1]]))
        >>> info = onepass.ops.sparse_adam_([p], [grad], [m], [v], lr=0.5)
        >>> p.ravel().round(3)
        array([ 0. ,  0. , -0.5], dtype=float32)
    """
    given, op = {**locals()}, "sparse_adam_"
    hyper = RULE.hyper(op, given)
    controls = step_options(op, options)
    for name in ("params", "grads", "exp_avgs", "exp_avg_sqs"):
        if type(given[name]) is not list and not isinstance(given[name], Sequence):
            raise TypeError(f"{op}: {name!r} is {given[name]!r}, expected a list of arrays")
        if len(given[name]) != len(params):
            raise ValueError(
                f"{op}: {name!r} has {len(given[name])} entries, expected {len(params)}"
            )
    taken = [count - 1 for count in counts_of(op, step, len(params))]
    return take_rows(
        op, params, grads, (exp_avgs, exp_avg_sqs), [hyper] * len(params), taken, **controls
    )
