"""What a module does behind its own formula, in the same pass: residual, activation, dropout."""

from __future__ import annotations

from typing import Any

import torch

from onepass import _numbers as numbers
from onepass.ops._fused import ActivationSpec, resolve
from onepass.torch.nn._functions import draw_seed


class Epilogue(torch.nn.Module):
    """Mixin before a class of torch: the arguments ``activation=`` and ``dropout=``."""

    def _set_epilogue(self, activation: ActivationSpec, dropout: float) -> None:
        owner = type(self).__name__
        self.activation = activation
        self.dropout = numbers.in_range(owner, "dropout", dropout, 0, most=1)
        kernel = resolve(owner, activation)
        self._kernel = (kernel.name, list(kernel.options))

    def _rest(self, x: torch.Tensor) -> tuple[torch.Tensor | None, tuple[Any, ...]]:
        """The seed, and what kernels take at their end."""
        p = self.dropout if self.training else 0.0
        return draw_seed(p, x.device), (*self._kernel, p)

    def extra_repr(self) -> str:
        said = super().extra_repr()
        if self.activation is not None:
            said += f", activation={self.activation!r}"
        return said + (f", dropout={self.dropout}" if self.dropout else "")
