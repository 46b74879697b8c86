"""Arrays as one vector: the arithmetic of an optimizer that sees all parameters at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from onepass import _C
from onepass._array import Array, copy_into, empty, is_torch, library, parameter_dtype
from onepass.ops._step import plain_sgd

Vector = Any
_LONG = 1 << 16  # elements of a vector from which a step by a kernel is quicker


class Flat:
    """Vectors of all elements of a list of arrays, in float64 if one of them is, else float32.

    Args:
        owner: whom a message names.
        arrays: of one library, on one device.

    Raises:
        ValueError: they are of several.
    """

    def __init__(self, owner: str, arrays: Sequence[Array]) -> None:
        self._lib = library(arrays[0])
        kinds = [(library(a).__name__, str(getattr(a, "device", "cpu"))) for a in arrays]
        for index, kind in enumerate(kinds):
            if kind != kinds[0]:
                raise ValueError(
                    f"{owner}: parameter {index} is of {' on '.join(kind)}, expected "
                    f"{' on '.join(kinds[0])} as parameter 0: all are one vector"
                )
        wide = [a for a in arrays if "64" in str(parameter_dtype(a))]
        self._like = (wide or list(arrays))[0]
        self.shapes = [tuple(map(int, a.shape)) for a in arrays]
        ends = [0]
        for shape in self.shapes:
            ends.append(ends[-1] + math.prod(shape))
        self._ranges = list(pairwise(ends))
        self.size = ends[-1]

    def parts(self, vector: Vector) -> list[Array]:
        """Views of a vector in the shapes of the arrays."""
        return [
            vector[begin:end].reshape(shape)
            for (begin, end), shape in zip(self._ranges, self.shapes, strict=True)
        ]

    def empty(self) -> Vector:
        return empty((self.size,), parameter_dtype(self._like), self._like)

    def gather(self, arrays: Sequence[Array | None]) -> Vector:
        """A new vector of the arrays' values, 0 for None."""
        vector = self.empty()
        for part, array in zip(self.parts(vector), arrays, strict=True):
            copy_into(part, 0.0 if array is None else array)
        return vector

    def scatter(self, vector: Vector, arrays: Sequence[Array | None]) -> None:
        """Writes a vector to the arrays that are not None."""
        for part, array in zip(self.parts(vector), arrays, strict=True):
            if array is not None:
                copy_into(array, part)

    def vector(self, values: Any) -> Vector:
        """A new vector of these values."""
        new = self.empty()
        copy_into(new, values)
        return new

    def dot(self, x: Vector, y: Vector) -> float:
        return float(x.dot(y))

    def largest(self, x: Vector) -> float:
        """max |x|, 0 for an empty vector."""
        return max(float(x.max()), -float(x.min())) if self.size else 0.0

    def total(self, x: Vector) -> float:
        """Σ|x|."""
        return float(abs(x).sum())

    def add(self, x: Vector, factor: float, y: Vector) -> None:
        """x += factor·y."""
        self.adder(x)(factor, y)

    def adder(self, x: Vector) -> Callable[[float, Vector], None]:
        """A function that does x += factor·y for any factor and y."""
        if self._lib is np and self.size >= _LONG:  # a step of SGD, on all threads
            plan = _C.Plan("sgd", [x], [None], [0])

            def step(factor: float, y: Vector) -> None:
                row = plain_sgd(-factor, 0.0)
                plan.step([y], (row,), 1.0, None, None, False, False, False, True)

            return step
        return lambda factor, y: self._add(x, factor, y)

    def _add(self, x: Vector, factor: float, y: Vector) -> None:
        if is_torch(self._lib):
            x.add_(y, alpha=factor)
        else:
            x += self._lib.multiply(y, factor, dtype=x.dtype)
