"""The affine layer: a matrix product, then bias, activation and dropout in one pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass._array import Array, convert
from onepass._parameter import Parameter
from onepass.nn import _initialisers as init
from onepass.nn._affine import Affine
from onepass.nn._checks import Like, check_beside, check_dtype, check_gradient, like
from onepass.nn._epilogue import Epilogue
from onepass.nn._facts import bypassable


class Linear(Affine):
    """``y = x Wᵀ + b``.

    Backward: ``dx = dy W``, ``dW = dyᵀ x``, ``db = Σ dy`` over the rows. Weight and bias start
    uniform in ±1/√in_features, as PyTorch's do. A float16 or bfloat16 x is computed in float32, and
    y is stored as x is.

    Args:
        in_features, out_features: sizes of the last axis of x (…, in) and y (…, out).
        bias: False leaves ``b`` out.
        dtype: "float32" or "float64", of the parameters and of x.

    Attributes:
        weight: `Parameter` (out_features, in_features).
        bias: `Parameter` (out_features,), or None.

    Raises:
        ValueError: a size below 1, another dtype; in forward, another last axis; in backward,
            another shape than y.
        TypeError: a size that is not a whole number; in forward and backward, another dtype or
            library than the parameters', or no array.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> layer = nn.Linear(3, 2)
        >>> y = layer(np.ones((4, 3), np.float32))
        >>> dx = layer.backward(np.ones_like(y))
        >>> y.shape, dx.shape, layer.weight.grad.shape, layer.bias.grad.tolist()
        ((4, 2), (4, 3), (2, 3), [4.0, 4.0])
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, dtype: Any = "float32"
    ) -> None:
        in_features = numbers.integer("Linear", "in_features", in_features, 1)
        out_features = numbers.integer("Linear", "out_features", out_features, 1)
        known = check_dtype("Linear", dtype)
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(np.empty((out_features, in_features), known))
        self.bias = Parameter(np.empty(out_features, known)) if bias else None
        init.kaiming_uniform(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(in_features)
            init.uniform(self.bias, -bound, bound)

    def fused_forward(self, x: Array, epilogue: Epilogue) -> Array:
        lib, dtype, shape = self._check(x)
        weight, is_matrix = self.weight.data, len(shape) == 2
        rows = x if is_matrix else x.reshape(-1, self.in_features)
        narrow = dtype != weight.dtype
        wide = convert(rows, weight.dtype.name) if narrow else rows
        # dot, not matmul: the same products of matrices, in half of the time before they begin.
        product = lib.dot(wide, weight.T, out=self._room(wide))
        y_shape = (*shape[:-1], self.out_features)
        options = epilogue.options(x, y_shape)
        y, kept = self._add_bias(product, epilogue, options, -1)
        if narrow:
            y = y.astype(dtype)
        self._remember((rows, kept, options, shape, (lib, dtype, y_shape)))
        return y if is_matrix else y.reshape(y_shape)

    @bypassable
    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        rows, product, options, shape, y = self.recall()
        check_gradient("Linear.backward", dy, y)
        lib, dtype, _ = y
        parameter, is_matrix = self.weight, len(shape) == 2
        weight = parameter.data
        narrow = dtype != weight.dtype
        if narrow:
            dy, rows = (convert(array, weight.dtype.name) for array in (dy, rows))
        dy = dy if is_matrix else dy.reshape(-1, self.out_features)
        dz = self._bias_gradient(dy, product, options, -1)
        if parameter.requires_grad:
            parameter.accumulate(lib.dot(dz.T, rows, out=parameter.room()))
        if not need_input_grad:
            return None
        dx = lib.dot(dz, weight)
        dx = dx if is_matrix else dx.reshape(shape)
        return dx.astype(dtype) if narrow else dx

    def _check(self, x: Array) -> Like:
        _, _, shape = kind = like("Linear", "x", x)
        check_beside("Linear", x, kind, self.weight.data)
        if shape[-1:] != (self.in_features,):
            raise ValueError(f"Linear: x has shape {shape}, expected (…, {self.in_features})")
        return kind

    def _room(self, rows: Array) -> Array | None:
        """The last call's product to write to, where it fits and nothing else refers to it."""
        last = self._saved.unshared(self.training)
        if last is None or (product := last[1]) is None:
            return None
        fits = product.shape == (len(rows), self.out_features) and product.dtype == rows.dtype
        return product if fits else None

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )
