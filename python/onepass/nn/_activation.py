"""Activations: one class per kernel, named and parameterised as in PyTorch.

A new one is three lines: the class, its ``kernel`` (the name in `onepass.ops`), its options.
"""

from __future__ import annotations

from typing import Any, ClassVar

from onepass import _numbers as numbers
from onepass import ops
from onepass._array import Array
from onepass.nn._device import check_gradient, like
from onepass.nn._module import Module


class Activation(Module):
    """``y = kernel(x)``, elementwise. ``option_names`` are attributes and kernel keywords."""

    kernel: ClassVar[str]
    option_names: ClassVar[tuple[str, ...]] = ()

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.option_names}

    def forward(self, x: Array) -> Array:
        y = getattr(ops, self.kernel)(x, **self.options())
        self.saved = x
        return y

    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        x = self.recall()
        if not need_input_grad:
            return None
        return getattr(ops, f"{self.kernel}_backward")(dy, x, **self.options())

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options().items())


class Identity(Module):
    """``y = x``, the same array.

    Raises:
        TypeError: in forward and backward, no array of floats; in backward, another dtype than y.
        ValueError: in backward, another shape than y.

    Example:
        >>> x = np.array([-1, 2], np.float32)
        >>> nn.Identity()(x) is x
        True
    """

    def forward(self, x: Array) -> Array:
        self.saved = like("Identity", "x", x)
        return x

    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        y = self.recall()
        if not need_input_grad:
            return None
        check_gradient("Identity.backward", dy, y)
        return dy


class ReLU(Activation):
    """``y = max(x, 0)``; the gradient at 0 is 0.

    Example:
        >>> nn.ReLU()(np.array([-1, 2], np.float32)).tolist()
        [0.0, 2.0]
    """

    kernel = "relu"


class LeakyReLU(Activation):
    """``y = x`` where ``x > 0``, else ``negative_slope * x``. Source: Maas et al. 2013.

    Args:
        negative_slope: the slope left of zero.

    Raises:
        TypeError: ``negative_slope`` is no number.

    Example:
        >>> nn.LeakyReLU(0.5)(np.array([-1, 2], np.float32)).tolist()
        [-0.5, 2.0]
    """

    kernel = "leaky_relu"
    option_names = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = numbers.in_range("LeakyReLU", "negative_slope", negative_slope)


class Sigmoid(Activation):
    """``y = 1 / (1 + exp(-x))``.

    Example:
        >>> nn.Sigmoid()(np.array([0, np.inf], np.float32)).tolist()
        [0.5, 1.0]
    """

    kernel = "sigmoid"


class Tanh(Activation):
    """``y = tanh(x)``.

    Example:
        >>> nn.Tanh()(np.array([0, np.inf], np.float32)).tolist()
        [0.0, 1.0]
    """

    kernel = "tanh"


class GELU(Activation):
    """``y = x Φ(x)``, Φ the normal distribution function. Source: Hendrycks and Gimpel 2016.

    Args:
        approximate: "none" is exact; "tanh" is ``x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))``.

    Raises:
        ValueError: another ``approximate``.

    Example:
        >>> nn.GELU()(np.array([0, -np.inf, np.inf], np.float32)).tolist()
        [0.0, -0.0, inf]
    """

    kernel = "gelu"
    option_names = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f"approximate={approximate!r}: expected 'none' or 'tanh'")
        self.approximate = approximate
