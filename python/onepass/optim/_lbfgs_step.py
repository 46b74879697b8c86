"""A step of L-BFGS: its iterations, from where the parameters are to where the loss is lower."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from onepass._array import Array
from onepass._kind import like
from onepass._numbers import as_float
from onepass.ops._rule import Options
from onepass.optim._flat import Flat, Vector
from onepass.optim._line_search import Point, backtracking, strong_wolfe

SEARCHES = {"strong_wolfe": strong_wolfe, "backtracking": backtracking}
_LEAST_CURVATURE = 1e-10


class Memory(NamedTuple):
    """Memory from one step to the next, by the names of PyTorch's state. No vector of it is
    written again.

    Attributes:
        func_evals: evaluations so far.
        n_iter: iterations so far.
        d: the last direction.
        t: how far it was gone.
        old_dirs: y, changes of the gradient, the newest last.
        old_stps: s, changes of the parameters.
        ro: 1/(y·s) of each.
        H_diag: (s·y)/(y·y) of the newest.
        prev_flat_grad: the gradient before the last move.
        prev_loss: the loss there.
    """

    func_evals: int = 0
    n_iter: int = 0
    d: Vector = None
    t: float = 1.0
    old_dirs: tuple[Vector, ...] = ()
    old_stps: tuple[Vector, ...] = ()
    ro: tuple[float, ...] = ()
    H_diag: float = 1.0
    prev_flat_grad: Vector = None
    prev_loss: float = math.nan


class NonFiniteError(Exception):
    """A loss or gradient that is not finite; ``parameter`` is None for the loss."""

    def __init__(self, parameter: int | None) -> None:
        super().__init__()
        self.parameter = parameter


class Step:
    """One step.

    Args:
        owner: whom a message names.
        flat: of the parameters.
        arrays: of the parameters, None for a frozen one, which stays where it is.
        evaluate: calls the closure: (loss, gradients), where a gradient may be None.
        options: of the group.
        checks: whether NonFiniteError is raised for a loss or gradient from which the step goes on.
    """

    def __init__(
        self,
        owner: str,
        flat: Flat,
        arrays: Sequence[Array | None],
        evaluate: Callable[[], tuple[Any, Sequence[Array | None]]],
        options: Options,
        checks: bool,
    ) -> None:
        self._owner, self._flat, self._arrays = owner, flat, arrays
        self._call, self._options, self._checks = evaluate, options, checks
        self._sign = -1.0 if options["maximize"] else 1.0
        self._start = flat.gather(arrays)
        self._evals = 0
        self.loss: Any = None  # of the first call, as the closure gave it

    def restore(self) -> None:
        """Puts the parameters where they were."""
        self._flat.scatter(self._start, self._arrays)

    def run(self, memory: Memory) -> Memory:
        """Iterates from ``memory``; the parameters are then where the loss was found lower."""
        flat, options = self._flat, self._options
        max_iter, narrow = options["max_iter"], float(options["tolerance_change"])
        search = options["line_search_fn"]
        x = self._start
        loss, g = self._evaluate()
        if flat.largest(g) <= options["tolerance_grad"]:
            return memory._replace(func_evals=memory.func_evals + self._evals)
        evals_before = memory.func_evals
        for iteration in range(1, max_iter + 1):
            memory = self._remember(memory, g)
            d = self._direction(memory, g)
            first = memory.n_iter == 1
            t = float(options["lr"]) * (min(1.0, 1.0 / flat.total(g)) if first else 1.0)
            memory = memory._replace(d=d, t=t, prev_flat_grad=g, prev_loss=loss)
            slope = flat.dot(g, d)
            if slope > -narrow:
                break
            if search is not None:
                start, most = Point(0.0, loss, slope, g), options["max_eval"] - self._evals
                point = SEARCHES[search](self._line(x, d), start, t, most, narrow / flat.largest(d))
                t, loss, g = point.t, point.loss, point.gradient
                memory = memory._replace(t=t)
            x = self._moved(x, t, d)
            if search is None and iteration < max_iter:
                loss, g = self._evaluate()
            if iteration == max_iter or self._evals >= options["max_eval"]:
                break
            if flat.largest(g) <= options["tolerance_grad"]:
                break
            if t * flat.largest(d) <= narrow or abs(loss - memory.prev_loss) < narrow:
                break
        return memory._replace(func_evals=evals_before + self._evals)

    def _remember(self, memory: Memory, g: Vector) -> Memory:
        """The memory with the last move, whose gradient is known now."""
        n_iter = memory.n_iter + 1
        if n_iter == 1:
            return Memory(n_iter=1)
        y, s = g - memory.prev_flat_grad, memory.d * memory.t
        ys = self._flat.dot(y, s)
        if not ys > _LEAST_CURVATURE:
            return memory._replace(n_iter=n_iter)
        most = self._options["history_size"]
        return memory._replace(
            n_iter=n_iter,
            old_dirs=(*memory.old_dirs, y)[-most:],
            old_stps=(*memory.old_stps, s)[-most:],
            ro=(*memory.ro, 1.0 / ys)[-most:],
            H_diag=ys / self._flat.dot(y, y),
        )

    def _direction(self, memory: Memory, g: Vector) -> Vector:
        """-H·g by Nocedal's two loops."""
        flat, d = self._flat, -g
        add = flat.adder(d)
        pairs = list(zip(memory.old_dirs, memory.old_stps, memory.ro, strict=True))
        alphas = []
        for y, s, ro in reversed(pairs):
            alphas.append(flat.dot(s, d) * ro)
            add(-alphas[-1], y)
        d *= memory.H_diag
        for (y, s, ro), alpha in zip(pairs, reversed(alphas), strict=True):
            add(alpha - flat.dot(y, d) * ro, s)
        for part, array in zip(flat.parts(d), self._arrays, strict=True):
            if array is None:
                part[...] = 0  # frozen since the moves that are remembered
        return d

    def _moved(self, x: Vector, t: float, d: Vector) -> Vector:
        """x + t·d, which the parameters are set to."""
        moved = self._flat.vector(x)
        self._flat.add(moved, t, d)
        self._flat.scatter(moved, self._arrays)
        return moved

    def _line(self, x: Vector, d: Vector) -> Callable[[float], Point]:
        def evaluate(t: float) -> Point:
            self._moved(x, t, d)
            loss, g = self._evaluate(checks=False)
            slope = self._flat.dot(g, d)
            # A gradient that is not finite is not a place to go on from, however low the loss.
            too_far = math.isnan(loss) or not math.isfinite(slope)
            return Point(t, math.inf if too_far else loss, slope, g)

        return evaluate

    def _evaluate(self, checks: bool = True) -> tuple[float, Vector]:
        given, grads = self._call()
        self._evals += 1
        if self._evals == 1:
            self.loss = given
        value = given.detach() if hasattr(given, "detach") else given
        loss = as_float(self._owner, "loss", value, "a number: what the closure returned")
        if len(grads) != len(self._arrays):
            raise ValueError(
                f"{self._owner}: the closure returned {len(grads)} gradients, expected "
                f"{len(self._arrays)}, one for each parameter"
            )
        kept = [
            None if g is None or a is None else self._checked(index, g)
            for index, (g, a) in enumerate(zip(grads, self._arrays, strict=True))
        ]
        g = self._flat.gather(kept)
        if checks and self._checks:
            for index, part in enumerate(self._flat.parts(g)):
                if part.shape.count(0) == 0 and not math.isfinite(float(abs(part).max())):
                    raise NonFiniteError(index)
            if not math.isfinite(loss):
                raise NonFiniteError(None)
        if self._sign < 0:
            g = -g
        return self._sign * loss, g

    def _checked(self, index: int, grad: Array) -> Array:
        name = f"grads[{index}]"
        if str(getattr(grad, "layout", "")).startswith("torch.sparse"):
            grad = grad.to_dense()
        _, _, shape = like(self._owner, repr(name), grad)
        if shape != self._flat.shapes[index]:
            raise ValueError(
                f"{self._owner}: {name!r} has shape {shape}, expected {self._flat.shapes[index]}"
            )
        return grad
