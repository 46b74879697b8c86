"""The optimizers: one class per in-place function of `onepass.ops`, parameterised as in PyTorch.

A class is its signature. Formula, source and descriptions of options are those of the function;
a docstring here describes the options that the function does not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onepass.ops import _update as ops
from onepass.ops._step import Betas
from onepass.optim._optimizer import Optimizer, Parameters
from onepass.optim._torch_options import TorchOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Lion",
    "NAdam",
    "RMSprop",
]


class SGD(Optimizer, op=ops.sgd_):
    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **torch_options: Unpack[TorchOptions],
    ) -> None:
        super().__init__(params, locals())


class Adam(Optimizer, op=ops.adam_):
    """
    Args:
        amsgrad: use the maximum of past v, the same for all groups.
        decoupled_weight_decay: p *= 1 - lr·weight_decay instead: :class:`AdamW`'s update.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **torch_options: Unpack[TorchOptions],
    ) -> None:
        super().__init__(params, locals())


class AdamW(Adam, op=ops.adamw_):
    """
    Args:
        amsgrad: use the maximum of past v, the same for all groups.
    """

    _rule = Adam._rule

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **torch_options: Unpack[TorchOptions],
    ) -> None:
        Optimizer.__init__(self, params, {**locals(), "decoupled_weight_decay": True})


class RMSprop(Optimizer, op=ops.rmsprop_):
    """
    Args:
        centered: divide by the estimated deviation of g; the same for all groups.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **torch_options: Unpack[TorchOptions],
    ) -> None:
        super().__init__(params, locals())


class NAdam(Optimizer, op=ops.nadam_):
    def __init__(
        self,
        params: Parameters,
        lr: float = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **torch_options: Unpack[TorchOptions],
    ) -> None:
        super().__init__(params, locals())


class Lion(Optimizer, op=ops.lion_):
    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-4,
        betas: Betas = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **torch_options: Unpack[TorchOptions],
    ) -> None:
        super().__init__(params, locals())
