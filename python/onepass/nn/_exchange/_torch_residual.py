"""A residual block of PyTorch's modules, as `onepass.nn.Residual` is of arrays'."""

from __future__ import annotations

from torch import Tensor, nn


class Residual(nn.Module):
    """``y = shortcut(x) + body(x)``: what `onepass.nn.Module.to_torch` makes of a residual block.

    Source: He et al. 2016.

    Args:
        body: a module.
        shortcut: a module; None adds ``x`` itself.

    Example:
        >>> import torch
        >>> from onepass.torch import Residual
        >>> Residual(torch.nn.Flatten())(torch.ones(2, 3)).tolist()
        [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        side: Tensor = x if self.shortcut is None else self.shortcut(x)
        main: Tensor = self.body(x)
        return main + side


Residual.__module__ = "onepass.torch"  # as saved models of PyTorch's name it
