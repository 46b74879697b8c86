"""Flattens feature maps to vectors."""

from __future__ import annotations

import math

from onepass import _numbers as numbers
from onepass._array import Array
from onepass.nn._checks import check_gradient, like
from onepass.nn._module import Module
from onepass.nn._signal import Passing


class Flatten(Passing, Module):
    """Axes ``start_dim`` to ``end_dim`` as one; a view where the strides allow it.

    Args:
        start_dim, end_dim: the first and the last of the axes; negative ones count from the end.

    Raises:
        TypeError: an argument is not a whole number; in forward and backward, not an array of
            floats; in backward, another dtype than y.
        ValueError: in forward, x has no such axes; in backward, another shape than y.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.Flatten()(np.zeros((2, 3, 4, 5), np.float32)).shape
        (2, 60)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = numbers.integer("Flatten", "start_dim", start_dim)
        self.end_dim = numbers.integer("Flatten", "end_dim", end_dim)

    def forward(self, x: Array) -> Array:
        lib, dtype, shape = like("Flatten", "x", x)
        start, end = (d + len(shape) if d < 0 else d for d in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < len(shape):
            raise ValueError(
                f"Flatten({self.extra_repr()}): x has shape {shape}, which has no such axes"
            )
        flat = (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
        self._remember((shape, (lib, dtype, flat)))
        return x.reshape(flat)

    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        shape, y = self.recall()
        if not need_input_grad:
            return None
        check_gradient("Flatten.backward", dy, y)
        return dy.reshape(shape)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
