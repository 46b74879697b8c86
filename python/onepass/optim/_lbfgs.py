"""LBFGS: a step evaluates the loss several times, by a closure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from onepass import _numbers as numbers
from onepass._docs import shares
from onepass.optim._closure import CLOSURE_ARGS, ClosureOptimizer, SearchRule
from onepass.optim._flat import Flat
from onepass.optim._lbfgs_step import Memory, Step
from onepass.optim._optimizer import SHARED_ARGS, Parameters
from onepass.optim._state_dict import Reader
from onepass.optim._torch_options import TorchOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


@shares({**SHARED_ARGS, **CLOSURE_ARGS})
class LBFGS(ClosureOptimizer):
    """L-BFGS: p += t·d with d = -H·∇f, H the inverse Hessian by the last ``history_size`` moves.

    H is that of the two loops of Nocedal over s = t·d and y, the change of the gradient, from
    H₀ = (s·y)/(y·y); a move with y·s ≤ 1e-10 is not remembered. ``step(closure)`` makes up to
    ``max_iter`` iterations. t is ``lr``, or what the line search finds from there; in the first
    iteration of all min(1, 1/Σ|∇f|)·lr.

    There is one group, and one vector of all parameters, so they share a library and a device. A
    parameter without gradient counts as one with a gradient of 0. It keeps 8·(history_size + 2)
    bytes an element. Unlike PyTorch's, a search takes a loss that is not finite as too far, a
    closure that fails leaves parameters and state as they were, and a search may be
    "backtracking". ``ops`` has no such function, since one step is several evaluations of the loss.
    On CUDA each of them is waited for.

    Args:
        lr: length of a move without search, where a search begins with it.
        max_eval: evaluations of a step, None for max_iter·5/4. A line search may end at it early,
            where it began: with ``max_iter=1`` give it more, such as 25.
        tolerance_change: a step ends where no element moves further, or the loss changes by less.
        history_size: moves remembered.

    Raises:
        ValueError: hyper-parameters out of range, more groups than one, empty, duplicate or
            overlapping parameters, parameters of several libraries or devices.

    Source: Liu & Nocedal, On the limited memory BFGS method for large scale optimization, 1989;
    Nocedal & Wright, Numerical Optimization, 2006; PyTorch's LBFGS.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> p = np.array([-1.2, 1.0])
        >>> optimizer = optim.LBFGS([p], max_iter=60, line_search_fn="strong_wolfe")
        >>> def rosenbrock():
        ...     x, y = p
        ...     loss = (1 - x) ** 2 + 100 * (y - x**2) ** 2
        ...     slope = [-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)]
        ...     return loss, [np.array(slope)]
        >>> info = optimizer.step(rosenbrock)
        >>> bool(np.abs(p - 1).max() < 1e-3)
        True
    """

    _rule = SearchRule(
        ("lr", "tolerance_grad", "tolerance_change"), ("max_iter", "max_eval", "history_size")
    )

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[TorchOptions],
    ) -> None:
        if max_eval is None:
            max_eval = numbers.integer("LBFGS", "max_iter", max_iter, 1) * 5 // 4
        self._memory = Memory()
        super().__init__(params, locals())

    def _make_step(self, *parts: Any) -> Step:
        return Step(self._name, self._flat, *parts)

    # ---- saving

    def _entry(self) -> dict[str, Any]:
        entry = super()._entry()
        if self._memory.n_iter == 0:
            return {name: entry[name] for name in ("func_evals", "n_iter")}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in entry.items()}

    def _memory_of(self, reader: Reader, entry: Any) -> Memory:
        return _memory_of(reader, self._flat, entry)

    def remember(self, entry: Mapping[str, Any]) -> None:
        """Goes on from the entry of the first parameter, as `state_dict` has it; {}: afresh.

        Raises:
            ValueError: it is not a memory of these parameters; nothing is changed.
        """
        self._prepare()
        self._memory = self._read(self._reader(), entry)


def _memory_of(reader: Reader, flat: Flat, entry: Any) -> Memory:
    """The memory in a state_dict of ours or of PyTorch's."""

    def number(name: str) -> float:
        try:
            return numbers.in_range("", name, entry[name])
        except (TypeError, ValueError):
            raise reader.refuse(f"{name!r} is {entry[name]!r}, expected a finite number") from None

    def count(name: str) -> int:
        value = number(name)
        if not (value.is_integer() and 0 <= value < 2**63):
            raise reader.refuse(
                f"{name!r} is {entry[name]!r}, expected a whole number >= 0 and < 2**63"
            )
        return int(value)

    def listed(name: str) -> list[Any]:
        if not isinstance(entry[name], (list, tuple)):
            raise reader.refuse(f"{name!r} is a {type(entry[name]).__name__}, expected a list")
        return list(entry[name])

    def vector(name: str, value: Any) -> Any:
        shape = tuple(getattr(value, "shape", ("no array",)))
        if shape != (flat.size,):
            raise reader.refuse(f"{name!r} has shape {shape}, expected {(flat.size,)}")
        return flat.vector(value)

    if not isinstance(entry, Mapping) or not {"func_evals", "n_iter"} <= entry.keys():
        raise reader.refuse("the state lacks 'func_evals' and 'n_iter', expected that of an LBFGS")
    evals, n_iter = count("func_evals"), count("n_iter")
    if n_iter == 0:
        return Memory(evals)
    if missing := sorted(set(Memory._fields) - set(entry)):
        raise reader.refuse(f"the state lacks {', '.join(missing)}")
    lists = [listed(name) for name in ("old_dirs", "old_stps", "ro")]
    if len({len(values) for values in lists}) > 1:
        lengths = ", ".join(str(len(values)) for values in lists)
        raise reader.refuse(f"'old_dirs', 'old_stps' and 'ro' have {lengths} entries")
    try:
        curvatures = [numbers.in_range("", "ro", value) for value in lists[2]]
    except (TypeError, ValueError):
        raise reader.refuse(f"'ro' is {lists[2]!r}, expected finite numbers") from None
    if number("t") < 0:
        raise reader.refuse(f"'t' is {entry['t']!r}, expected a step length >= 0")
    return Memory(
        evals,
        n_iter,
        d=vector("d", entry["d"]),
        t=number("t"),
        old_dirs=tuple(vector("old_dirs", y) for y in lists[0]),
        old_stps=tuple(vector("old_stps", s) for s in lists[1]),
        ro=tuple(curvatures),
        H_diag=number("H_diag"),
        prev_flat_grad=vector("prev_flat_grad", entry["prev_flat_grad"]),
        prev_loss=number("prev_loss"),
    )
