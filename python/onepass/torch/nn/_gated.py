"""Modules that combine several channels into one: GLU and Maxout."""

from __future__ import annotations

import torch
from torch import nn

from onepass import _numbers as numbers
from onepass.ops._fused import ActivationSpec
from onepass.torch.nn._elementwise import glu, maxout
from onepass.torch.nn._epilogue import Activated


class GLU(Activated, nn.GLU):
    """y = a·activation(b), a and b the halves of the input along ``dim``, of any shape.

    `torch.nn.GLU` with a gate of choice. The input is kept for the backward.

    Args:
        dim: along which the input is halved; its extent is even.
        activation: "silu" makes it SwiGLU, "gelu" GEGLU, "relu" ReGLU; a name or (name, options).

    Example:
        >>> import torch
        >>> from onepass.torch import nn
        >>> nn.GLU(activation="silu")(torch.ones(3, 4)).shape
        torch.Size([3, 2])
    """

    def __init__(self, dim: int = -1, *, activation: ActivationSpec = "sigmoid") -> None:
        super().__init__(dim)
        self.activation = activation

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return glu(input, *self._kernel, self.dim)

    def extra_repr(self) -> str:
        gate = "" if self.activation == "sigmoid" else f", activation={self.activation!r}"
        return super().extra_repr() + gate


class Maxout(nn.Module):
    """y = the largest of each ``pieces`` neighbouring channels along ``dim``, of any shape.

    Over the kernel of `onepass.ops.maxout`: the gradient goes to the first of the largest. The
    input is kept for the backward. Source: Goodfellow et al. 2013.

    Args:
        pieces: how many neighbouring channels make one.
        dim: the axis of the channels, whose extent ``pieces`` divides.

    Example:
        >>> import torch
        >>> from onepass.torch import nn
        >>> nn.Maxout(2)(torch.tensor([[1.0, 3.0, 2.0, -1.0]]))
        tensor([[3., 2.]])
    """

    def __init__(self, pieces: int, dim: int = 1) -> None:
        super().__init__()
        self.pieces = numbers.integer("Maxout", "pieces", pieces, 1)
        self.dim = numbers.integer("Maxout", "dim", dim)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return maxout(input, self.pieces, self.dim)

    def extra_repr(self) -> str:
        return f"pieces={self.pieces}, dim={self.dim}"
