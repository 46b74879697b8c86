"""Layers that combine several channels into one: GLU and Maxout."""

from __future__ import annotations

from onepass import _numbers as numbers
from onepass import ops
from onepass._array import Array
from onepass.nn._facts import bypassable
from onepass.nn._module import Module
from onepass.nn._signal import Bending, Wanted, by_activation, by_maximum
from onepass.ops._fused import ActivationSpec, resolve


class GLU(Bending, Module):
    """``y = a·activation(b)``, a and b the halves of x along ``dim``.

    The function `onepass.ops.glu` as a module. Source: Dauphin et al. 2017, Shazeer 2020.

    Args:
        dim: the axis along which x is halved.
        activation: name of a function in ``onepass.ops``, or (name, options): "silu" makes it
            SwiGLU, "gelu" GEGLU, "relu" ReGLU.

    Raises:
        TypeError: ``dim`` is not a whole number, or ``activation`` neither a name nor a pair; in
            forward and backward, another dtype.
        ValueError: there is no such activation; in forward, x has no such axis or an odd extent
            along it; in backward, another shape than y.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.GLU()(np.float32([[2, 4, 0, 0]]))
        array([[1., 2.]], dtype=float32)
    """

    def __init__(self, dim: int = -1, *, activation: ActivationSpec = "sigmoid") -> None:
        self.dim = numbers.integer("GLU", "dim", dim)
        resolve("GLU", activation)
        self.activation = activation

    @bypassable
    def forward(self, x: Array) -> Array:
        kernel = resolve("GLU", self.activation)
        y = ops.glu(x, axis=self.dim, activation=kernel)
        self._remember((x, self.dim, kernel))
        return y

    @bypassable
    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        x, dim, kernel = self.recall()
        if not need_input_grad:
            return None
        return ops.glu_backward(dy, x, axis=dim, activation=kernel)

    def _wants(self) -> Wanted:
        return by_activation(resolve("GLU", self.activation).name, "GLU", {})

    def extra_repr(self) -> str:
        gate = "" if self.activation == "sigmoid" else f", activation={self.activation!r}"
        return f"dim={self.dim}{gate}"


class Maxout(Bending, Module):
    """``y`` = the largest of each ``pieces`` neighbouring channels along ``dim``.

    The function `onepass.ops.maxout` as a module: the gradient goes to the first of the largest.
    Source: Goodfellow et al. 2013.

    Args:
        pieces: how many neighbouring channels make one.
        dim: the axis of the channels.

    Raises:
        TypeError: ``pieces`` or ``dim`` is not a whole number; in forward and backward, another
            dtype.
        ValueError: ``pieces`` is below 1; in forward, it does not divide the channels; in backward,
            another shape than y.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.Maxout(2)(np.float32([[1, 3, 2, -1]]))
        array([[3., 2.]], dtype=float32)
    """

    def __init__(self, pieces: int, dim: int = 1) -> None:
        self.pieces = numbers.integer("Maxout", "pieces", pieces, 1)
        self.dim = numbers.integer("Maxout", "dim", dim)

    @bypassable
    def forward(self, x: Array) -> Array:
        y = ops.maxout(x, self.pieces, self.dim)
        self._remember((x, self.pieces, self.dim))
        return y

    @bypassable
    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        x, pieces, dim = self.recall()
        return ops.maxout_backward(dy, x, pieces, dim) if need_input_grad else None

    def _wants(self) -> Wanted:
        return by_maximum(self.pieces, "Maxout")

    def extra_repr(self) -> str:
        return f"pieces={self.pieces}, dim={self.dim}"
