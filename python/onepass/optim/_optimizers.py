"""The optimizers: one class per in-place function of `onepass.ops`, parameterised as in PyTorch.

A class is its signature. Formula, source and descriptions of options are those of the function;
a docstring here describes the options that the function does not have. Classes stand in
alphabetical order.

The keywords after ``*`` are in every signature because help(), editors and mypy read them there:
a decorator cannot add them (``Concatenate`` has no keywords), and in the ``TypedDict`` of
``options`` neither their names nor their defaults would be shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onepass.ops import _update as ops
from onepass.ops._declare_update import Betas
from onepass.optim._optimizer import Optimizer, Parameters
from onepass.optim._riders import SharedOptions, StorageOptions
from onepass.optim._schedule_free import ScheduleFree
from onepass.optim._sparse_gradients import SparseGradients
from onepass.optim._torch_options import TorchOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "ADOPT",
    "ASGD",
    "LAMB",
    "LARS",
    "SGD",
    "AdEMAMix",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
]


class Adadelta(Optimizer, op=ops.adadelta_):
    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(params, locals())


class Adafactor(Optimizer, op=ops.adafactor_):
    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[TorchOptions],
    ) -> None:
        super().__init__(params, locals())


class Adagrad(SparseGradients, op=ops.adagrad_):
    """
    Of a sparse COO gradient, such as ``torch.nn.Embedding(sparse=True)`` leaves, the rows alone are
    stepped.

    Args:
        initial_accumulator_value: s before a parameter's first gradient.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(params, locals())


class Adam(Optimizer, op=ops.adam_):
    """
    Args:
        amsgrad: use the maximum of past v.
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
        bias_correction: bool = True,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(params, locals())


class Adamax(Optimizer, op=ops.adamax_):
    def __init__(
        self,
        params: Parameters,
        lr: float = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        bias_correction: bool = True,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(params, locals())


class AdamW(Adam, op=ops.adamw_):
    """
    Args:
        amsgrad: use the maximum of past v.
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
        bias_correction: bool = True,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[SharedOptions],
    ) -> None:
        Optimizer.__init__(self, params, {**locals(), "decoupled_weight_decay": True})


class AdEMAMix(Optimizer, op=ops.ademamix_):
    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 5.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        total_steps: int | None = None,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(params, locals())


class ADOPT(Optimizer, op=ops.adopt_):
    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.9999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(params, locals())


class ASGD(Optimizer, op=ops.asgd_):
    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(params, locals())


class LAMB(Optimizer, op=ops.lamb_):
    """
    FusedLAMB of NVIDIA Apex also clips by a global norm of 1 by default: with ``compat="apex"``
    pass ``max_norm=1.0`` to `step`.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[TorchOptions],
    ) -> None:
        super().__init__(params, locals())


class LARS(Optimizer, op=ops.lars_):
    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        eps: float = 1e-8,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[TorchOptions],
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
        **options: Unpack[SharedOptions],
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
        bias_correction: bool = True,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(params, locals())


class RAdam(Optimizer, op=ops.radam_):
    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        bias_correction: bool = True,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(params, locals())


class RMSprop(Optimizer, op=ops.rmsprop_):
    """
    Args:
        centered: divide by the estimated deviation of g.
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
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(params, locals())


class Rprop(Optimizer, op=ops.rprop_):
    """
    Args:
        lr: the step size before a parameter's first gradient; later it has no effect.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(params, locals())


class ScheduleFreeAdamW(ScheduleFree, op=ops.schedulefreeadamw_):
    def __init__(
        self,
        params: Parameters,
        lr: float = 2.5e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[StorageOptions],
    ) -> None:
        super().__init__(params, locals())


class ScheduleFreeSGD(ScheduleFree, op=ops.schedulefreesgd_):
    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
        diagnostics: bool = False,
        compat: str = "torch",
        **options: Unpack[StorageOptions],
    ) -> None:
        super().__init__(params, locals())


class SGD(SparseGradients, op=ops.sgd_):
    """
    Of a sparse COO gradient, such as ``torch.nn.Embedding(sparse=True)`` leaves, the rows alone are
    stepped; with momentum, by which every row moves, it is made dense.
    """

    _moves_all = "momentum"

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
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(params, locals())
