"""Gradients of some rows alone: sparse tensors, and pairs of indices and values.

A step copies the rows together, steps them by the optimizer's kernel in one call, and copies them
back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from onepass import _C
from onepass._array import Array, copy_into, is_floating, is_torch, library, to_numpy
from onepass._array import negative as negative_array
from onepass._interruptions import ending_in
from onepass.ops._step import Controls, take_step, was_skipped
from onepass.ops._step_info import StepInfo

Gradient = Any  # a pair (indices, values), or a sparse COO tensor


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
    return Rows(*_summed(lib, indices.astype(np.intp, copy=False), values))


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
    starts = lib.flatnonzero(first)
    sums = lib.take(wide, order[starts], axis=0)
    # Only where there is more than one, since reduceat takes 10 times as long as a copy.
    several = ~first
    several[:-1] |= ~first[1:]
    repeated = lib.take(wide, order[several], axis=0)
    sums[several[starts]] = lib.add.reduceat(repeated, lib.flatnonzero(first[several]), axis=0)
    return sorted_indices[starts], sums.astype(values.dtype, copy=False)


def all_rows_of(
    op: str, params: Sequence[Array], grads: Sequence[Gradient | None]
) -> list[Rows | None]:
    """`rows_of` each gradient that there is."""
    if len(grads) != len(params):
        raise ValueError(f"{op}: 'grads' has {len(grads)} entries, expected {len(params)}")
    return [
        None if grad is None else rows_of(op, index, p, grad)
        for index, (p, grad) in enumerate(zip(params, grads, strict=True))
    ]


def take_rows(
    op: str,
    kernel: str,
    params: Sequence[Array],
    grads: Sequence[Any],
    rows: Sequence[Rows | Array | None],
    states: Sequence[Sequence[Array] | None],
    hypers: Sequence[tuple[float, ...]],
    taken: Sequence[int],
    controls: Controls,
    names: Sequence[str | None] = (),
    *,
    then: Callable[[], None] = lambda: None,
) -> StepInfo:
    """One step, in one call, over rows that are copied together and back.

    Args:
        rows: of ``grads``; an array in their place is a dense gradient, of the whole parameter.
        hypers, taken: hyper-parameters and steps taken, one per parameter.
        then: is called when all rows are back, not after a step that is skipped or refused; an
            interruption comes before all of that or after it.
    """
    whole = [params, *(arrays for arrays in states if arrays is not None)]
    parts = [[_part(a, r) for a, r in zip(arrays, rows, strict=True)] for arrays in whole]
    held = iter(parts[1:])
    lists = [None if arrays is None else next(held) for arrays in states]
    plan = _C.Plan(kernel, parts[0], lists, list(range(len(params))), list(taken), None, op)
    values = [r.values if isinstance(r, Rows) else r for r in rows]
    dense = any(r is not None and not isinstance(r, Rows) for r in rows)
    info: StepInfo | None = None

    def put_back() -> None:
        if info is None:  # refused, or interrupted, maybe after the launch
            if list(plan.steps) == list(taken):
                return
        elif was_skipped(info, controls.nonfinite):
            return
        for arrays, stepped in zip(whole, parts, strict=True):
            for array, part, r in zip(arrays, stepped, rows, strict=True):
                if isinstance(r, Rows):
                    _put(array, r.index, part)
        then()

    with ending_in(put_back):
        own = controls._replace(zero_grad=controls.zero_grad and dense)
        info = take_step(op, plan, values, hypers, own, names)
    assert info is not None
    if controls.zero_grad:
        for grad, r in zip(grads, rows, strict=True):
            if isinstance(r, Rows):
                zero(grad)
    return info


def _part(array: Array, rows: Rows | Array | None) -> Array:
    return _get(array, rows.index) if isinstance(rows, Rows) else array


def _get(array: Array, index: Any) -> Array:
    lib = library(array)
    if is_torch(lib):
        return array.detach()[index]
    return lib.take(array, index, axis=0)  # in half the time of array[index]


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
