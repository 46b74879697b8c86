"""From feature maps to vectors."""

from __future__ import annotations

import math

from onepass._array import Array
from onepass.nn._module import Module


class Flatten(Module):
    """Axes ``start_dim`` to ``end_dim`` as one; a view where the strides allow it.

    Example:
        >>> nn.Flatten()(np.zeros((2, 3, 4, 5), np.float32)).shape
        (2, 60)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Array) -> Array:
        shape = tuple(x.shape)
        start, end = (d + len(shape) if d < 0 else d for d in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < len(shape):
            raise ValueError(
                f"Flatten({self.extra_repr()}): x has shape {shape}, which has no such axes"
            )
        self.saved = shape
        return x.reshape((*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))

    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        shape = self.recall()
        return dy.reshape(shape) if need_input_grad else None

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
