"""Gradient descent with a line search."""

from __future__ import annotations

from typing import Any

from onepass._docs import shares
from onepass.optim._closure import SearchRule
from onepass.optim._flat import Vector
from onepass.optim._optimizer import SHARED_ARGS, Parameters
from onepass.optim.full_batch._base import SEARCH_ARGS, Counts, FullBatch, Searching


class _Step(Searching):
    def _first(self, memory: Counts) -> float:
        if self._options["line_search_fn"] is None or memory.t == 0:
            return float(self._options["lr"])
        return 2 * memory.t

    def _direction_at(self, x: Vector, g: Vector) -> Vector:
        return -g


@shares({**SHARED_ARGS, **SEARCH_ARGS})
class GradientDescent(FullBatch):
    """p -= t·∇f, where a line search finds t.

    The first search begins at ``lr``, each further one at twice the t before, so that t follows the
    curvature both ways. Without search t is ``lr``. ``step(closure)`` makes up to ``max_iter``
    iterations; a search that finds nothing lower ends the step where it was.

    Args:
        lr: how far the first search looks first; every step without search.

    Raises:
        ValueError: hyper-parameters out of range, more groups than one, empty, duplicate or
            overlapping parameters, parameters of several libraries or devices.

    Source: Cauchy, Méthode générale pour la résolution des systèmes d'équations simultanées, 1847;
    Armijo, Minimization of functions having Lipschitz continuous first partial derivatives, 1966.

    Example:
        >>> import numpy as np
        >>> from onepass.optim.full_batch import GradientDescent
        >>> p = np.array([3.0, -2.0])
        >>> optimizer = GradientDescent([p], max_iter=60)
        >>> info = optimizer.step(lambda: (p[0] ** 2 + 4 * p[1] ** 2, [p * [2, 8]]))
        >>> bool(np.abs(p).max() < 1e-6)
        True
    """

    _rule = SearchRule(("lr", "tolerance_grad", "tolerance_change"), ("max_iter",))

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        max_iter: int = 1,
        tolerance_grad: float = 1e-10,
        tolerance_change: float = 1e-12,
        line_search_fn: str | None = "backtracking",
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
    ) -> None:
        self._memory = Counts()
        super().__init__(params, locals())

    def _make_step(self, *parts: Any) -> _Step:
        return _Step(self._name, self._flat, *parts)
