"""The linear layer with its epilogue."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from onepass.ops._fused import ActivationSpec
from onepass.torch.nn._elementwise import activation as activate
from onepass.torch.nn._elementwise import bias_act
from onepass.torch.nn._elementwise import dropout as drop
from onepass.torch.nn._epilogue import Epilogue


class Linear(Epilogue, nn.Linear):
    """y = dropout(activation(x·weightᵀ + bias)), of (…, in_features) → (…, out_features).

    `torch.nn.Linear`, whose bias, ``activation`` and ``dropout`` are one pass behind the product.
    The product is kept for the backward, behind "relu" the result in its place; and a seed.

    Args:
        in_features, out_features, bias, device, dtype: as in torch.
        activation: name of a function in ``onepass.ops``, or (name, options).
        dropout: probability of dropping an element in training.

    Example:
        >>> import torch
        >>> from onepass.torch import nn
        >>> nn.Linear(3, 2, activation="relu")(torch.ones(1, 3)).shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: ActivationSpec = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self._set_epilogue(activation, dropout)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.activation is None and not (self.dropout and self.training):
            return super().forward(input)
        y = nn.functional.linear(input, self.weight)
        seed, rest = self._rest(y)
        if self.bias is not None:
            return bias_act(y, self.bias, seed, -1, *rest)
        y = activate(y, *self._kernel) if self.activation is not None else y
        return y if seed is None else drop(y, seed, "dropout", self.dropout)
