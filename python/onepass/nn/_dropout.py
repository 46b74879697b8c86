"""Dropout without a stored mask."""

from __future__ import annotations

from onepass import _numbers as numbers
from onepass import ops
from onepass._array import Array
from onepass.nn._checks import check_gradient, like
from onepass.nn._facts import Read, bypassable
from onepass.nn._module import Module
from onepass.nn._random import Stream


class Dropout(Module):
    """``y = 0`` with probability ``p``, else ``x / (1 - p)``; in evaluation ``y = x``.

    The mask is a function of the layer's ``(seed, offset)`` and the element's index; ``backward``
    computes it again. Each training call moves ``offset`` on by one: see `manual_seed` and
    `get_rng_state`. Where nothing is dropped the layer returns ``x`` itself. Source: Srivastava
    et al. 2014.

    Args:
        p: 0 <= p <= 1.

    Raises:
        TypeError: ``p`` is not a number; in forward and backward, not an array of floats; in
            backward, another dtype than y.
        ValueError: ``p`` is out of range; in backward, another shape than y.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> y = nn.Dropout(0.5)(np.ones(1000, np.float32))
        >>> sorted(set(y.tolist()))
        [0.0, 2.0]
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = numbers.in_range("Dropout", "p", p, 0, most=1)
        self.stream = Stream()

    @bypassable
    def drops(self, read: Read = getattr) -> bool:
        """Whether the next call drops anything."""
        return bool(read(self, "training") and read(self, "p") > 0)

    @bypassable
    def forward(self, x: Array) -> Array:
        kind = like("Dropout", "x", x)
        if not self.drops():
            self._remember((kind, None))
            return x
        seed, offset = self.stream.take()
        try:
            y = ops.dropout(x, self.p, seed=seed, offset=offset)
        except BaseException:
            self.stream.give_back()
            raise
        self._remember((kind, (self.p, seed, offset)))
        return y

    @bypassable
    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        y, mask = self.recall()
        if not need_input_grad:
            return None
        check_gradient("Dropout.backward", dy, y)
        if mask is None:
            return dy
        p, seed, offset = mask
        return ops.dropout_backward(dy, p, seed=seed, offset=offset)

    def extra_repr(self) -> str:
        return f"p={self.p}"
