"""Weight normalisation of another layer."""

from __future__ import annotations

import os
from threading import RLock

from onepass import ops
from onepass._array import Array
from onepass._parameter import Computed, Parameter
from onepass.nn._module import Module

_backward = RLock()  # the layer's gradient belongs to one backward at a time


def _renew_lock() -> None:
    """In a forked child, where no other thread is left to release it."""
    global _backward
    _backward = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class WeightNorm(Module):
    """A layer whose weight is ``g · v / ‖v‖``, for each slice of the weight along ``dim``.

    ``weight_g`` and ``weight_v`` are trained in the place of the layer's weight, which each call
    computes from them. They start so that the layer's weight is what it was.
    Source: Salimans and Kingma 2016.

    Args:
        module: the layer, used from here alone.
        name: of its weight.
        dim: axis of the weight whose slices have a length of their own; of a linear layer's or a
            convolution's 0 is a length for each output.

    Attributes:
        module: the layer.
        weight_g: `Parameter`, the lengths, with 1 along all axes but ``dim``, as in PyTorch.
        weight_v: `Parameter`, like the weight.

    Raises:
        TypeError: ``module`` is not a module.
        ValueError: it has no such parameter, or a slice of that is zero, which has no direction.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> layer = nn.WeightNorm(nn.Linear(3, 2))
        >>> sorted(layer.state_dict())
        ['module.bias', 'weight_g', 'weight_v']
        >>> layer(np.ones((4, 3), np.float32)).shape
        (4, 2)
    """

    def __init__(self, module: Module, name: str = "weight", dim: int = 0) -> None:
        if not isinstance(module, Module):
            raise TypeError(
                f"WeightNorm: module is a {type(module).__name__}, expected an nn.Module"
            )
        weight = vars(module).get(name)
        if not isinstance(weight, Parameter) or isinstance(weight, Computed):
            known = [k for k, v in vars(module).items() if isinstance(v, Parameter)]
            raise ValueError(
                f"WeightNorm: name is {name!r}, expected one of the parameters of "
                f"{type(module).__name__}: {known}"
            )
        if type(dim) is not int or not 0 <= dim < weight.ndim:
            raise ValueError(
                f"WeightNorm: dim is {dim!r}, expected an axis of {name}, which has {weight.ndim}"
            )
        others = tuple(i for i in range(weight.ndim) if i != dim)
        values = weight.data.astype("float64")
        largest = abs(values).max(axis=others, keepdims=True)
        if not bool((largest > 0).all()):
            raise ValueError(
                f"WeightNorm: a slice of {name} along axis {dim} is zero, which has no direction; "
                "initialise the layer first"
            )
        unit = values / largest  # whose squares are in range
        lengths = largest * (unit * unit).sum(axis=others, keepdims=True) ** 0.5
        self.name, self.dim = name, dim
        self.weight_g = Parameter(lengths.astype(weight.data.dtype))
        self.weight_v = Parameter(weight.data.copy())
        setattr(module, name, Computed(weight.data))
        self.module = module

    def _weight(self) -> Parameter:
        weight: Parameter = getattr(self.module, self.name)
        return weight

    def forward(self, x: Array) -> Array:
        v, g = self.weight_v.data, self.weight_g.data
        self._weight().data = ops.weight_norm(v, g, self.dim)
        y = self.module(x)
        self.saved = True
        return y

    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        self.recall()
        weight = self._weight()
        with _backward:  # in evaluation several threads may go backward
            weight.grad = None
            dx = self.module.backward(dy, need_input_grad=need_input_grad)
            dw, weight.grad = weight.grad, None
        dv, dg = ops.weight_norm_backward(dw, self.weight_v.data, self.weight_g.data, self.dim)
        self.weight_v.accumulate(dv)
        self.weight_g.accumulate(dg)
        return dx

    def extra_repr(self) -> str:
        return f"name={self.name!r}, dim={self.dim}" if self.name != "weight" or self.dim else ""
