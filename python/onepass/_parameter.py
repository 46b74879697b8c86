"""An array that is trained, and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from onepass._array import Array
from onepass._kind import check_owned


class Parameter:
    """An array that is trained: ``data``, and ``grad`` of the same shape.

    `Module.backward` adds to ``grad``; it is None until the first backward and after `zero_grad`.

    Args:
        data: NumPy or CuPy array of floats; kept, not copied.
        requires_grad: False freezes the parameter: backward leaves its ``grad`` alone.

    Raises:
        TypeError: ``data`` is no such array.

    Example:
        >>> nn.Parameter(np.zeros((2, 3), np.float32))
        Parameter(shape=(2, 3), dtype=float32)
    """

    def __init__(self, data: Array, requires_grad: bool = True) -> None:
        check_owned("Parameter", "data", data)
        self.data = data
        self.grad: Array | None = None
        self.requires_grad = requires_grad

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.data.dtype
        return dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(self.data.size)

    def accumulate(self, grad: Array) -> None:
        """Add to ``grad`` unless frozen. The first one is kept, not copied: pass a new array."""
        if not self.requires_grad:
            return
        if self.grad is None:
            self.grad = grad
        else:
            self.grad += grad

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradient, or fill it with zeros where it is."""
        if set_to_none:
            self.grad = None
        elif self.grad is not None:
            self.grad.fill(0)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    def __repr__(self) -> str:
        frozen = "" if self.requires_grad else ", requires_grad=False"
        return f"Parameter(shape={self.shape}, dtype={self.dtype.name}{frozen})"
