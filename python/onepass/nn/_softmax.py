"""Softmax and log-softmax as modules."""

from __future__ import annotations

from collections.abc import Callable

from onepass import _numbers as numbers
from onepass import ops
from onepass._array import Array
from onepass.nn._facts import bypassable
from onepass.nn._module import Module
from onepass.nn._signal import Wanted


class _OverAxis(Module):
    """A function along an axis, whose gradient needs its output alone."""

    _function: Callable[..., Array]
    _gradient: Callable[..., Array]

    def __init__(self, dim: int) -> None:
        self.dim = numbers.integer(type(self).__name__, "dim", dim)

    @bypassable
    def forward(self, x: Array) -> Array:
        y = self._function(x, self.dim)
        self._remember((y, self.dim))
        return y

    @bypassable
    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        y, dim = self.recall()
        return self._gradient(dy, y, dim) if need_input_grad else None

    def _wants(self) -> Wanted:
        return Wanted(type(self).__name__)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_OverAxis):
    """``y = exp(x - m) / Σ exp(x - m)``, m = max x, along ``dim``.

    The function `onepass.ops.softmax` as a module. ``backward`` works from y, which the module
    keeps: leave it as it is until then. y is in C order whatever the order of x.

    Args:
        dim: the axis along which y adds up to 1.

    Raises:
        TypeError: ``dim`` is not a whole number; in forward and backward, another dtype.
        ValueError: in forward, x has no such axis; in backward, another shape than y.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.Softmax(dim=1)(np.float32([[0, 0], [-np.inf, 3]]))
        array([[0.5, 0.5],
               [0. , 1. ]], dtype=float32)
    """

    _function = staticmethod(ops.softmax)
    _gradient = staticmethod(ops.softmax_backward)


class LogSoftmax(_OverAxis):
    """``y = (x - m) - log Σ exp(x - m)``, m = max x, along ``dim``.

    The function `onepass.ops.log_softmax` as a module. ``backward`` works from y, which the module
    keeps: leave it as it is until then. y is in C order whatever the order of x.

    Args:
        dim: the axis along which exp(y) adds up to 1.

    Raises:
        TypeError: ``dim`` is not a whole number; in forward and backward, another dtype.
        ValueError: in forward, x has no such axis; in backward, another shape than y.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.LogSoftmax(dim=1)(np.float32([[0, 0]]))
        array([[-0.6931472, -0.6931472]], dtype=float32)
    """

    _function = staticmethod(ops.log_softmax)
    _gradient = staticmethod(ops.log_softmax_backward)
