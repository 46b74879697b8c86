"""Behind a module's own formula, in the same pass: residual, activation, dropout."""

from __future__ import annotations

from typing import Any

import torch

from onepass import _numbers as numbers
from onepass.ops._fused import ActivationSpec, resolve
from onepass.torch.nn._elementwise import draw_seed


class Activated(torch.nn.Module):
    """Mixin before a class of torch: the attribute ``activation``, and the kernel that it names."""

    _activation: ActivationSpec
    _kernel: tuple[str, list[float]]
    _undropped: tuple[str, list[float], float]  # and no dropout

    @property
    def activation(self) -> ActivationSpec:
        return self._activation

    @activation.setter
    def activation(self, value: ActivationSpec) -> None:
        kernel = resolve(type(self).__name__, value)
        self._kernel = (kernel.name, list(kernel.options))
        self._undropped = (*self._kernel, 0.0)
        self._activation = value


class Epilogue(Activated):
    """Mixin before a class of torch: the arguments ``activation=`` and ``dropout=``."""

    # The dropout of torch that this one's stands for (`onepass.torch.fuse`), in a tuple: no child.
    _drops_for: tuple[Any] | None = None

    def _set_epilogue(self, activation: ActivationSpec, dropout: float) -> None:
        self.activation = activation
        self.dropout = numbers.in_range(type(self).__name__, "dropout", dropout, 0, most=1)

    def _rest(self, x: torch.Tensor) -> tuple[torch.Tensor | None, tuple[Any, ...]]:
        """The seed, and what kernels take at their end."""
        p = self.dropout if self.training else 0.0
        if p and self._drops_for is not None:
            layer = self._drops_for[0]
            p = layer.p if layer.training else 0.0
        if p == 0.0:
            return None, self._undropped
        return draw_seed(p, x.device), (*self._kernel, p)

    def extra_repr(self) -> str:
        said = super().extra_repr()
        if self.activation is not None:
            said += f", activation={self.activation!r}"
        return said + (f", dropout={self.dropout}" if self.dropout else "")
