"""What both share: a memory of numbers, and the iterations of a step."""

from __future__ import annotations

from typing import Any, NamedTuple

from onepass import _numbers as numbers
from onepass.optim._closure import CLOSURE_ARGS, ClosureOptimizer
from onepass.optim._flat import Vector
from onepass.optim._lbfgs_step import SEARCHES, Step
from onepass.optim._line_search import Point
from onepass.optim._state_dict import Reader

MOST = 40  # evaluations of a search
SEARCH_ARGS = {
    **CLOSURE_ARGS,
    "tolerance_change": "a search gives up where no element would move further.",
}


class Counts(NamedTuple):
    """Evaluations and iterations so far, and how far the last search went; 0 before the first."""

    func_evals: int = 0
    n_iter: int = 0
    t: float = 0.0


class Searching(Step):
    """A step of iterations: a direction, then a search along it."""

    def run(self, memory: Counts) -> Counts:  # type: ignore[override]
        """Iterates from ``memory``; the parameters are then where the loss was found lower."""
        flat, options = self._flat, self._options
        search, narrow = options["line_search_fn"], float(options["tolerance_change"])
        x, before = self._start, memory.func_evals
        loss, g = self._evaluate()
        for iteration in range(options["max_iter"]):
            if flat.largest(g) <= options["tolerance_grad"]:
                break
            d = self._direction_at(x, g)
            slope = flat.dot(g, d)
            if not slope < 0:
                d, slope = -g, -flat.dot(g, g)
            memory = memory._replace(n_iter=memory.n_iter + 1)
            t = self._first(memory)
            if search is not None:
                start = Point(0.0, loss, slope, g)
                width = narrow / flat.largest(d)
                point = SEARCHES[search](self._line(x, d), start, t, MOST, width)
                t, loss, g = point.t, point.loss, point.gradient
            x = self._moved(x, t, d)
            if t == 0:  # nothing lower was found
                break
            memory = memory._replace(t=t)
            if search is None and iteration + 1 < options["max_iter"]:
                loss, g = self._evaluate()
        return memory._replace(func_evals=before + self._evals)

    def _first(self, memory: Counts) -> float:
        """How far to look first."""
        return float(self._options["lr"])

    def _direction_at(self, x: Vector, g: Vector) -> Vector:
        raise NotImplementedError


class FullBatch(ClosureOptimizer):
    """Base of `GradientDescent` and `Newton`."""

    _one_group = "the search spans all parameters"
    _memory: Counts

    def _memory_of(self, reader: Reader, entry: Any) -> Counts:
        try:
            evals, n_iter = (
                numbers.integer(self._name, name, entry[name], 0)
                for name in ("func_evals", "n_iter")
            )
            return Counts(evals, n_iter, numbers.in_range(self._name, "t", entry["t"], 0))
        except (TypeError, ValueError, KeyError, IndexError):
            raise reader.refuse(
                f"the state is {entry!r}, expected 'func_evals', 'n_iter' and 't', numbers >= 0"
            ) from None
