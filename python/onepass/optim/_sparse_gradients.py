"""Optimizers of dense parameters whose gradients may be sparse tensors: those that PyTorch has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from onepass import _C
from onepass._array import Array
from onepass.ops import _rows
from onepass.ops._step import Controls, take_step
from onepass.ops._step_info import StepInfo
from onepass.optim._groups import of_parameters
from onepass.optim._optimizer import Optimizer
from onepass.optim._per_parameter import ArrayWatch, PlanWatch
from onepass.optim._riders import ridden


class SparseGradients(Optimizer):
    """Steps the rows that a sparse gradient names, as PyTorch does, where the others stay as they
    are without a gradient. Where ``_moves_all`` is an option that moves all of them, and it is
    on, the gradient is made dense."""

    _moves_all: ClassVar[str | None] = None

    def _take(
        self,
        op: str,
        plan: _C.Plan,
        grads: Sequence[Any],
        hypers: Sequence[tuple[float, ...]],
        controls: Controls,
        names: Sequence[str | None],
    ) -> StepInfo:
        try:
            return take_step(op, plan, grads, hypers, controls, names)
        except TypeError:  # a plan does not read sparse tensors; to look first costs every step
            if not (isinstance(grads, Sequence) and any(map(_is_sparse, grads))):
                raise
        rows = self._rows(op, grads)
        if not any(isinstance(r, _rows.Rows) for r in rows):
            info = take_step(op, plan, rows, hypers, controls, names)
            if controls.zero_grad:
                for grad in filter(_is_sparse, grads):
                    self._zero(grad)
            return info
        self._refuse_riders(op)
        own = of_parameters(self._own_groups(), hypers)
        states = [None if key is None else self._states[key] for key in self._wanted[1]]
        steps = plan.steps

        def count() -> None:
            plan.steps = [t + (g is not None) for t, g in zip(steps, grads, strict=True)]

        return _rows.take_rows(
            op, self._wanted[0], self._arrays, grads, rows, states, own, steps, controls, names,
            then=count,
        )  # fmt: skip

    def _rows(self, op: str, grads: Sequence[Any]) -> list[Any]:
        """The gradients, rows in the place of sparse tensors."""
        groups = of_parameters(self._own_groups())
        if len(grads) != len(groups):
            raise ValueError(f"{op}: 'grads' has {len(grads)} entries, expected {len(groups)}")
        found = list(grads)
        for index, (grad, group) in enumerate(zip(grads, groups, strict=True)):
            if not _is_sparse(grad):
                continue
            if group["weight_decay"]:
                raise ValueError(
                    f"{op}: 'grads[{index}]' is sparse and 'weight_decay' is "
                    f"{group['weight_decay']!r}, expected 0, since a decay concerns every row; "
                    "make the gradient dense, or give the parameter a group without decay"
                )
            rows = _rows.rows_of(op, index, self._arrays[index], grad)
            all_move = self._moves_all is not None and group[self._moves_all]
            found[index] = grad.detach().to_dense() if all_move else rows
        return found

    def _refuse_riders(self, op: str) -> None:
        if on := ridden(self.param_groups, self._settings):
            raise ValueError(
                f"{op}: a gradient is sparse and the optimizer has {', '.join(sorted(on))}, "
                "expected none of them, since they concern every row; make the gradient dense"
            )

    def _watch(self, plan: _C.Plan, grads: Sequence[Any]) -> PlanWatch | ArrayWatch | None:
        if not any(map(_is_sparse, grads)):
            return super()._watch(plan, grads)
        return self._watch_arrays([_values(g) for g in grads])

    def _turned(self, index: int, grad: Any) -> Any:
        return -grad if _is_sparse(grad) else super()._turned(index, grad)

    @staticmethod
    def _zero(grad: Array) -> None:
        _rows.zero(grad) if _is_sparse(grad) else Optimizer._zero(grad)


def _is_sparse(grad: Any) -> bool:
    return str(getattr(grad, "layout", "")) == "torch.sparse_coo"


def _values(grad: Any) -> Any:
    return grad.detach().coalesce().values() if _is_sparse(grad) else grad
