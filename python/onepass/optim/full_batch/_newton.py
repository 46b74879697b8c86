"""Newton's method by conjugate gradients, with a line search."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass._array import beside, to_numpy
from onepass._docs import shares
from onepass.ops._rule import Options
from onepass.ops._step_info import StepInfo
from onepass.optim._closure import SearchRule
from onepass.optim._flat import Vector
from onepass.optim._optimizer import SHARED_ARGS, Parameters
from onepass.optim.full_batch._base import SEARCH_ARGS, Counts, FullBatch, Searching

CG_ITERATIONS = 100
ROUNDING = 1e-14  # what it leaves of a curvature that is 0, as part of ‖p‖·‖Hp‖
Product = Callable[[Vector], Vector]


class _Rule(SearchRule):
    def of_group(self, owner: str, group: Options) -> tuple[float, ...]:
        if group["cg_max_iter"] is not None:
            numbers.integer(owner, "cg_max_iter", group["cg_max_iter"], 1)
        if group["cg_tolerance"] is not None:
            numbers.in_range(owner, "cg_tolerance", group["cg_tolerance"], 0, 1)
        return super().of_group(owner, group)


class _Step(Searching):
    hessian: Callable[[], Any] | None = None

    def _direction_at(self, x: Vector, g: Vector) -> Vector:
        given = None if self.hessian is None else self.hessian()
        if given is None:
            return self._conjugate(lambda v: self._differences(x, v), g)
        if callable(given):
            return self._conjugate(lambda v: self._applied(given, v), g)
        matrix = self._matrix(given)
        if (d := self._solved(matrix, g)) is not None:
            return d
        whole = beside(g, matrix.astype(str(g.dtype).removeprefix("torch.")))
        return self._conjugate(lambda v: whole @ v, g)

    def _matrix(self, given: Any) -> Any:
        matrix = np.asarray(to_numpy(given), np.float64) * self._sign
        size = self._flat.size
        if matrix.shape != (size, size):
            raise ValueError(
                f"{self._owner}: 'hessian' returned an array of shape {matrix.shape}, expected "
                f"({size}, {size}), all elements of the parameters in their order, or a function "
                "of a list of arrays"
            )
        return matrix

    def _solved(self, matrix: Any, g: Vector) -> Vector | None:
        """-H⁻¹g by Cholesky's factors; None where H is not positive definite."""
        moving = np.flatnonzero(to_numpy(self._kept(g * 0 + 1)))
        part = matrix[np.ix_(moving, moving)]
        try:
            factor = np.linalg.cholesky(part)
        except np.linalg.LinAlgError:
            return None
        right = to_numpy(g).astype(np.float64)[moving]
        found = np.zeros(len(matrix))
        found[moving] = -np.linalg.solve(factor.T, np.linalg.solve(factor, right))
        return self._flat.vector(beside(g, found)) if np.isfinite(found).all() else None

    def _applied(self, product: Callable[[list[Any]], Any], v: Vector) -> Vector:
        parts = product(self._flat.parts(v))
        if not isinstance(parts, (list, tuple)) or len(parts) != len(self._arrays):
            raise ValueError(
                f"{self._owner}: the product with the Hessian is a {type(parts).__name__}, "
                f"expected a list of {len(self._arrays)} arrays, one for each parameter"
            )
        kept = [None if p is None else self._checked(i, p) for i, p in enumerate(parts)]
        return self._flat.gather(kept) * self._sign

    def _differences(self, x: Vector, v: Vector) -> Vector:
        """H·v by the gradient at two places, which are ε = ∛machine epsilon·(1 + ‖x‖)/‖v‖ away."""
        flat = self._flat
        machine = np.finfo(str(v.dtype).removeprefix("torch.")).eps
        length = math.sqrt(flat.dot(v, v))
        step = float(machine) ** (1 / 3) * (1 + math.sqrt(flat.dot(x, x))) / length
        self._moved(x, step, v)
        _, above = self._evaluate(checks=False)
        self._moved(x, -step, v)
        _, below = self._evaluate(checks=False)
        return (above - below) / (2 * step)

    def _kept(self, v: Vector) -> Vector:
        """``v`` with 0 for frozen parameters."""
        for part, array in zip(self._flat.parts(v), self._arrays, strict=True):
            if array is None:
                part[...] = 0
        return v

    def _conjugate(self, product: Product, g: Vector) -> Vector:
        """d with H·d ≈ -g; -g or the d so far where the curvature is not positive."""
        flat, options = self._flat, self._options
        most = options["cg_max_iter"] or min(flat.size, CG_ITERATIONS)
        squared = flat.dot(g, g)
        norm = math.sqrt(squared)
        tolerance = options["cg_tolerance"]
        enough = norm * (min(0.1, math.sqrt(norm)) if tolerance is None else tolerance)
        d, r, p = g * 0, g + 0, -g
        for iteration in range(most):
            hp = self._kept(product(p))
            curvature = flat.dot(p, hp)
            # Relative to the sizes of p and Hp: the loss may have any unit.
            sizes = math.sqrt(flat.dot(p, p)) * math.sqrt(flat.dot(hp, hp))
            if not ROUNDING * sizes < curvature < math.inf:
                return d if iteration else -g
            alpha = squared / curvature
            flat.add(d, alpha, p)
            flat.add(r, alpha, hp)
            before, squared = squared, flat.dot(r, r)
            if math.sqrt(squared) <= enough:
                break
            p = p * (squared / before)
            flat.add(p, -1.0, r)
        return d


@shares({**SHARED_ARGS, **SEARCH_ARGS})
class Newton(FullBatch):
    """p += t·d with H·d = -∇f, H the Hessian of f, and t from a line search.

    ``step(closure, hessian=…)`` takes the exact Hessian, as a matrix (solved by Cholesky's factors)
    or as a function that multiplies by it. Without one, as in a Trainer, products with it are
    central differences of the gradient, (∇f(p + εv) - ∇f(p - εv)) / 2ε: exact but for rounding
    where f is quadratic, else off by ε², about 1e-10 of it in float64; float32 parameters leave
    them three digits. Such products solve H·d = -∇f by conjugate gradients, as far as
    ``cg_tolerance`` says. Where the curvature is not positive, as away from a minimum of a
    network, d is what was found until then, at first -∇f.

    Args:
        lr: how far a search looks first: 1 is Newton's step; every step without search.
        cg_max_iter: products with H for one d; None: one for each element, at most 100.
        cg_tolerance: conjugate gradients end at ‖H·d + ∇f‖ ≤ cg_tolerance·‖∇f‖; None: at
            min(0.1, √‖∇f‖), which converges faster than linearly.

    Raises:
        ValueError: hyper-parameters out of range, more groups than one, empty, duplicate or
            overlapping parameters, parameters of several libraries or devices.

    Source: Nocedal & Wright, Numerical Optimization, 2006, algorithm 7.1; Dembo, Eisenstat &
    Steihaug, Inexact Newton Methods, 1982.

    Example:
        >>> import numpy as np
        >>> from onepass.optim.full_batch import Newton
        >>> p = np.array([3.0, -2.0])
        >>> def loss():
        ...     return p[0] ** 2 + 4 * p[1] ** 2, [p * [2, 8]]
        >>> info = Newton([p]).step(loss, hessian=lambda: np.diag([2.0, 8.0]))
        >>> bool(np.abs(p).max() < 1e-12)
        True
    """

    _rule = _Rule(
        ("lr", "tolerance_grad", "tolerance_change"), ("max_iter",), ("cg_max_iter", "cg_tolerance")
    )
    _hessian: Callable[[], Any] | None = None  # of the step in progress

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        max_iter: int = 1,
        tolerance_grad: float = 1e-10,
        tolerance_change: float = 1e-12,
        line_search_fn: str | None = "backtracking",
        cg_max_iter: int | None = None,
        cg_tolerance: float | None = None,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
    ) -> None:
        self._memory = Counts()
        super().__init__(params, locals())

    def step(  # type: ignore[override]
        self,
        closure: Callable[[], Any] | None = None,
        hessian: Callable[[], Any] | None = None,
        **options: Any,
    ) -> StepInfo:
        """Up to ``max_iter`` iterations.

        Args:
            closure: as for `LBFGS.step`.
            hessian: a function without arguments, called where the parameters are: the Hessian as
                an array (n, n) over all their elements in order, or a function of a list of arrays
                like the parameters that returns its products with them. None: by differences.
            options: as for `LBFGS.step`.

        Returns:
            As `LBFGS.step`.

        Raises:
            TypeError, ValueError: as `LBFGS.step`; a Hessian of another shape. Nothing is changed.
        """
        if hessian is not None and not callable(hessian):
            raise TypeError(
                f"{self._name}: 'hessian' is a {type(hessian).__name__}, expected a function that "
                "returns it where the parameters are"
            )
        self._hessian = hessian
        try:
            return super().step(closure, **options)
        finally:
            self._hessian = None

    def _make_step(self, *parts: Any) -> _Step:
        step = _Step(self._name, self._flat, *parts)
        step.hessian = self._hessian
        return step
