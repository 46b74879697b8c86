"""Activations and softmax: torch's modules over the kernels."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from onepass.ops._declare import ACTIVATIONS
from onepass.torch._operators import is_compiling
from onepass.torch.nn._docs import formula
from onepass.torch.nn._elementwise import activation, softmax

_DOC = """{formula}

{theirs} the kernel of `onepass.ops.{op}`.
Shapes: any, and a result like the input, which is kept for the backward.

Example:
    >>> import torch
    >>> from onepass.torch import nn
    >>> nn.{name}()(torch.ones(2)).shape
    torch.Size([2])
"""

# (op, values of the options) → kernel with options. Looking one up anew takes two microseconds.
_NO_OPTIONS: list[float] = []
_KERNELS: dict[tuple[Any, ...], tuple[str, list[float]]] = {}


class Activation(nn.Module):
    """Mixin before an activation of torch, whose constructor and attributes stay.

    ``inplace`` has no effect: the backward reads the input, which is therefore never overwritten.
    """

    op: ClassVar[str]
    options: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, *, op: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if op is None:
            return
        cls.op, cls.options = op, tuple(ACTIVATIONS[op].defaults)
        theirs = f"`torch.nn.{cls.__name__}` over" if hasattr(nn, cls.__name__) else "Over"
        cls.__doc__ = _DOC.format(formula=formula(op), theirs=theirs, op=op, name=cls.__name__)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.options:
            return activation(input, self.op, _NO_OPTIONS)
        given = tuple([getattr(self, name) for name in self.options])
        return activation(input, *self._kernel(given))

    def _kernel(self, given: tuple[Any, ...]) -> tuple[str, list[float]]:
        found = None if is_compiling() else _KERNELS.get((self.op, given))
        if found is None:
            options = dict(zip(self.options, given, strict=True))
            kernel = ACTIVATIONS[self.op].kernel(type(self).__name__, options)
            found = kernel.name, list(kernel.options)
            if not is_compiling():
                _KERNELS[self.op, given] = found
        return found


class ReLU(Activation, nn.ReLU, op="relu"): ...


class LeakyReLU(Activation, nn.LeakyReLU, op="leaky_relu"): ...


class Sigmoid(Activation, nn.Sigmoid, op="sigmoid"): ...


class Tanh(Activation, nn.Tanh, op="tanh"): ...


class GELU(Activation, nn.GELU, op="gelu"): ...


class SiLU(Activation, nn.SiLU, op="silu"): ...


class SELU(Activation, nn.SELU, op="selu"): ...


class Mish(Activation, nn.Mish, op="mish"): ...


class ELU(Activation, nn.ELU, op="elu"): ...


class CELU(Activation, nn.CELU, op="celu"): ...


class Softplus(Activation, nn.Softplus, op="softplus"): ...


class Hardtanh(Activation, nn.Hardtanh, op="hardtanh"): ...


class ReLU6(Activation, nn.ReLU6, op="relu6"): ...


class Hardsigmoid(Activation, nn.Hardsigmoid, op="hardsigmoid"): ...


class Hardswish(Activation, nn.Hardswish, op="hardswish"): ...


class Softsign(Activation, nn.Softsign, op="softsign"): ...


class Abs(Activation, op="abs"): ...


class Sin(Activation, op="sin"): ...


class _Softmax(nn.Module):
    dim: int | None
    log: ClassVar[bool]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.dim is None:
            raise ValueError(f"{type(self).__name__}: 'dim' is None, expected an int")
        if input.dim() == 0 and self.dim in (0, -1):  # as in torch
            return softmax(input.unsqueeze(0), 0, self.log).squeeze(0)
        return softmax(input, self.dim, self.log)


class Softmax(_Softmax, nn.Softmax):
    """y = exp(x) / Σ exp(x) along ``dim``, which must be given; any shape, stable for any logits.

    `torch.nn.Softmax` over the kernel of `onepass.ops.softmax`. The result is
    kept for the backward.

    Example:
        >>> import torch
        >>> from onepass.torch import nn
        >>> nn.Softmax(dim=-1)(torch.zeros(1, 2))
        tensor([[0.5000, 0.5000]])
    """

    log = False


class LogSoftmax(_Softmax, nn.LogSoftmax):
    """y = x - log Σ exp(x) along ``dim``, which must be given; any shape, stable for any logits.

    `torch.nn.LogSoftmax` over the kernel of `onepass.ops.log_softmax`. The result is
    kept for the backward.

    Example:
        >>> import torch
        >>> from onepass.torch import nn
        >>> nn.LogSoftmax(dim=-1)(torch.zeros(1, 2))
        tensor([[-0.6931, -0.6931]])
    """

    log = True
