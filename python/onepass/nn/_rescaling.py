"""Brings numbers, such as the bytes of images, to the range that a model computes with."""

from __future__ import annotations

from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass._array import Array, convert
from onepass.nn._checks import Like, check_dtype, check_gradient, like, namespace
from onepass.nn._module import Module


class Rescaling(Module):
    """``y = x · scale + offset``: images of whole numbers brought to the range of a model.

    As the first layer it scales alike in training, validation and predictions, and is saved with
    the model. ``Rescaling(1 / 255)`` brings uint8 to 0 to 1, ``Rescaling(1 / 127.5, -1)`` to -1 to
    1. Backward: ``dx = dy · scale``.

    Args:
        scale, offset: finite numbers.
        dtype: of y where x is of whole numbers: "float32" or "float64", that of the model. Where x
            is of floating-point numbers, y is like x; 16 bits are computed in float32.

    Raises:
        TypeError: an argument is not a number; in forward, no array of real numbers; in backward,
            another dtype or library than y. ValueError: an argument is not finite, or another
            dtype; in backward, another shape than y.

    Source: Keras's ``Rescaling``.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.Rescaling(1 / 255)(np.uint8([[0, 51, 255]])).round(4)
        array([[0. , 0.2, 1. ]], dtype=float32)
    """

    def __init__(self, scale: float, offset: float = 0.0, *, dtype: Any = "float32") -> None:
        self.scale = numbers.in_range("Rescaling", "scale", scale)
        self.offset = numbers.in_range("Rescaling", "offset", offset)
        self.dtype = check_dtype("Rescaling", dtype).name

    def forward(self, x: Array) -> Array:
        y_kind = self._kind_of_y(x)
        self._remember(y_kind)
        return self._scaled(x, y_kind[1], self.offset)

    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        y_kind = self.recall()
        if not need_input_grad:
            return None
        check_gradient("Rescaling.backward", dy, y_kind)
        return self._scaled(dy, y_kind[1], 0.0)

    def _kind_of_y(self, x: Array) -> Like:
        whole = getattr(getattr(x, "dtype", None), "kind", None) in ("i", "u")
        if whole and not isinstance(x, np.generic):
            return namespace(x), np.dtype(self.dtype), tuple(x.shape)
        kind = like("Rescaling", "x", x)
        namespace(x)
        return kind

    def _scaled(self, x: Array, dtype: Any, offset: float) -> Array:
        wide = np.dtype("float32") if dtype.itemsize == 2 else dtype
        y = (x if x.dtype == wide else convert(x, wide.name)) * wide.type(self.scale)
        if offset:
            y += wide.type(offset)
        return y if dtype == wide else y.astype(dtype)

    def extra_repr(self) -> str:
        parts = [f"scale={self.scale!r}", f"offset={self.offset!r}"]
        return ", ".join(parts + [f"dtype={self.dtype!r}"] * (self.dtype != "float32"))
