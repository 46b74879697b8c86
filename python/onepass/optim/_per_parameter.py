"""Norms of each parameter's gradient, update and value: what ``diagnostics=True`` measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from onepass import _C
from onepass._array import Array, copy_into, parameter_dtype, zeros_like
from onepass._cuda_memory import read_back


class PerParameter(NamedTuple):
    """The effect of a step on each parameter.

    Each attribute is a list in flat order with a float for every parameter, None where it had no
    gradient. (Of Muon and SparseAdam on a CUDA device, a 0-d array.)

    Attributes:
        grad_norm: of the gradient after unscaling and before clipping.
        update_norm: of the parameter's change, 0 in a skipped step.
        param_norm: of the parameter before the step.
    """

    grad_norm: list[Any]
    update_norm: list[Any]
    param_norm: list[Any]


Measured = PerParameter | Callable[[], PerParameter]  # what was measured, or a look at it


class PlanWatch:
    """Lets a plan measure its next step: made before it, asked after it."""

    def __init__(self, plan: _C.Plan) -> None:
        self._plan = plan
        plan.watch = True

    def result(self, grad_scale: float | None) -> Measured:
        """The norms, where the step has succeeded; of a step on a device, a function that waits."""
        watched = self._plan.watched
        assert watched is not None
        if len(watched) == 3:
            return _arranged(*watched)
        norms, active, count, device, stream = watched

        def read() -> PerParameter:
            host = read_back(norms, device, stream)
            before, after = host[: 2 * count].reshape(count, 2), host[2 * count :]
            had = set(active)
            lists = [
                [float(x) if i in had else None for i, x in enumerate(each)]
                for each in (before[:, 0], before[:, 1], after)
            ]
            return _arranged(*lists)

        return read


def with_larger_gradients(measured: Measured, factor: float) -> Measured:
    """Measures of gradients that were divided by ``factor``, as before."""
    if callable(measured):
        look = measured
        return lambda: _larger(look(), factor)
    return _larger(measured, factor)


def _larger(measured: PerParameter, factor: float) -> PerParameter:
    norms = [None if norm is None else norm * factor for norm in measured.grad_norm]
    return measured._replace(grad_norm=norms)


def _arranged(param: list[Any], grad: list[Any], change: list[Any]) -> PerParameter:
    return PerParameter(grad_norm=grad, update_norm=change, param_norm=param)


class ArrayWatch:
    """Measures a step that is not a plan's alone, parameter by parameter: made before it, asked
    after it.

    Args:
        params: arrays of the parameters.
        grads: their gradients, None where there is none.
    """

    def __init__(self, params: Sequence[Array], grads: Sequence[Array | None]) -> None:
        self._params = params
        pairs = list(zip(params, grads, strict=False))
        self._grad_norms = [None if g is None else _norm(g) for _, g in pairs]
        self._before = [None if g is None else _copy(p) for p, g in pairs]

    def result(self, grad_scale: float | None) -> PerParameter:
        """The norms, where the step has succeeded."""
        updates = []
        for p, before in zip(self._params, self._before, strict=True):
            change = None if before is None else _copy(p)
            if change is not None:
                change -= before
            updates.append(change)
        unscale = 1.0 if grad_scale is None else 1.0 / float(grad_scale)
        return PerParameter(
            [None if norm is None else norm * unscale for norm in self._grad_norms],
            [None if change is None else _norm(change) for change in updates],
            [None if before is None else _norm(before) for before in self._before],
        )


def _norm(x: Array) -> Any:
    return _C.global_norm([x], 2)


def _copy(p: Array) -> Array:
    """A copy of the computing type."""
    copy = zeros_like(p, parameter_dtype(p))
    copy_into(copy, p)
    return copy
