"""SparseAdam: moments for every row, steps for those that a gradient names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from onepass import _C
from onepass._array import Array, parameter_dtype, zeros_like
from onepass.ops import _rows
from onepass.ops import _sparse_adam as ops
from onepass.ops._declare_update import Betas
from onepass.ops._rule import State
from onepass.ops._step import Controls
from onepass.ops._step_info import StepInfo
from onepass.optim._groups import of_parameters
from onepass.optim._optimizer import Optimizer, Parameters
from onepass.optim._per_parameter import ArrayWatch
from onepass.optim._torch_options import TorchOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SparseAdam(Optimizer, op=ops.sparse_adam_):
    """
    A gradient, in ``step(grads)`` or in ``.grad``, is a pair (indices, values) over axis 0 or, of a
    tensor, a sparse COO tensor such as ``torch.nn.Embedding(sparse=True)`` leaves. Rows of equal
    index are summed. A parameter keeps 8 bytes an element. A step reads p, m, v and g of the rows
    and writes p, m and v, 28 bytes an element, and copies them once more; its time does not depend
    on the other rows. On CUDA it waits for the number of rows.

    The paper's Adam decays m and v of every row at every step. As in PyTorch a parameter's steps
    are counted for all of its rows: one that is seen first at step 1,000 gets next to no bias
    correction. PyTorch refuses lr = 0, where a schedule may end; here it is a step of length 0.

    Args:
        eps: added to √v before the correction; > 0.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> table = np.ones((1000, 2), np.float32)
        >>> optimizer = optim.SparseAdam([table], lr=0.1)
        >>> words, grads = np.array([7, 3, 7]), np.ones((3, 2), np.float32)
        >>> info = optimizer.step([(words, grads)])
        >>> np.unique(np.nonzero(table != 1)[0])
        array([3, 7])
    """

    _rule = ops.RULE
    _no_riders = "it touches the rows that a gradient names alone"
    _plans = False
    _no_capture = "the host reads which rows there are"
    _work = "one call over the rows that the gradients name, and copies of them"
    _counts_in_ints = True  # PyTorch's powers of a count that is a tensor would be float32

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[TorchOptions],
    ) -> None:
        super().__init__(params, locals())

    _zero = staticmethod(_rows.zero)
    _negative = staticmethod(_rows.negative)

    def _turned(self, index: int, grad: Any) -> Any:
        return self._negative(grad)  # pairs, which the step itself checks

    def _follow(self, state: State, arrays: list[Array]) -> list[Array]:
        """A state of its own memory for each parameter: steps do not run through all of them.

        In a shared buffer PyTorch's SparseAdam, which may load them, would write elsewhere:
        ``dense.add_(sparse)`` of PyTorch 2.13 counts the beginning of a one-dimensional view twice.
        """
        held = self._states.get(state.key, [])
        new = [zeros_like(a, parameter_dtype(a)) for a in arrays[len(held) :]]
        kept, starts = arrays[: len(held)], [0.0] * len(held)
        return self._storage.follow(self._name, state, kept, held, starts) + new

    def _new_plan(self, kernel: str, names: tuple[str | None, ...]) -> _C.Plan:
        """A plan over all rows. No step runs it: it checks the arrays, and counts on the host."""
        states = [None if name is None else self._states[name] for name in names]
        count = len(self._arrays)
        zeros = [0] * count
        return _C.Plan(kernel, self._arrays, states, zeros, zeros, None, self._name)

    def _take(
        self,
        op: str,
        plan: _C.Plan,
        grads: Sequence[_rows.Gradient | None],
        hypers: Sequence[tuple[float, ...]],
        controls: Controls,
        names: Sequence[str | None],
    ) -> StepInfo:
        steps = plan.steps

        def count() -> None:
            plan.steps = [t + (g is not None) for t, g in zip(steps, grads, strict=True)]

        rows = _rows.all_rows_of(op, self._arrays, grads)
        states = [*(self._states[key] for key in self._rule.keys), None]
        own = of_parameters(self._own_groups(), hypers)
        return _rows.take_rows(
            op, "adam", self._arrays, grads, rows, states, own, steps, controls, names, then=count
        )

    def _watch(self, plan: _C.Plan, grads: Sequence[_rows.Gradient | None]) -> ArrayWatch | None:
        try:
            rows = _rows.all_rows_of(self._name, self._arrays, grads)
        except (TypeError, ValueError, IndexError):
            return None  # the step refuses them
        return self._watch_arrays([None if r is None else r.values for r in rows])
