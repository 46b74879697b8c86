"""Norms with residual, activation and dropout in the same pass.

They are subclasses of torch's, so that what looks for those finds them too:
`torch.optim.swa_utils.update_bn`, and loops that freeze norms.
"""

from __future__ import annotations

import math
from sys import _getframe
from types import CodeType, FrameType
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as TorchBatchNorm
from torch.nn.modules.batchnorm import _NormBase

from onepass import _numbers as numbers
from onepass.ops._fused import ActivationSpec
from onepass.ops._row_norm import machine_epsilon
from onepass.torch._operators import is_compiling
from onepass.torch.nn._docs import formula
from onepass.torch.nn._epilogue import Epilogue
from onepass.torch.nn._norm_function import norm

# Functions that make another norm of a batch norm, or put it into the layer before it: torch's, and
# in these projects those with such names.
_CONVERT = {nn.SyncBatchNorm.convert_sync_batchnorm.__code__}
_MERGE = {nn.utils.fuse_conv_bn_eval.__code__, nn.utils.fuse_linear_bn_eval.__code__}
_PROJECTS = (
    "apex", "composer", "detectron2", "fvcore", "lightning", "mmcv", "mmengine",
    "pytorch_lightning", "timm", "torch", "torchvision", "ultralytics",
)  # fmt: skip
_CONVERTING = ("convert", "replace", "swap")
_MERGING = ("fuse", "fold", "merge", "absorb")

_DOC = """{formula}

`torch.nn.{name}` over the kernel of `onepass.ops.{kind}`, all of that in one pass.
The input is {takes}; residual and result are like it.

Kept for the backward: the input, the statistics, and the residual where an activation follows it;
a mask of dropout is a seed. Results come in the input's dtype, computed in float32 for 16 bits,
also under autocast. state_dicts are torch's.
{replaced}
Args:
    {arguments}: as in torch.
    activation: name of a function in ``onepass.ops``, or (name, options).
    dropout: probability of dropping an element in training; the mask depends on torch's generator
        of the CPU and is the same in any memory order, at the price of a pass with the channels
        last.

Example:
    >>> import torch
    >>> from onepass.torch import nn
    >>> m = nn.{name}({example}, activation="relu")
    >>> x = torch.randn({shape})
    >>> m(x, residual=x).shape == x.shape
    True
"""

_REPLACED = """
Functions that replace a batch norm, or put it into the layer before it, read ``eps``. With an
activation or dropout that raises RuntimeError in those of torch
(`torch.nn.SyncBatchNorm.convert_sync_batchnorm`, `torch.nn.utils.fuse_conv_bn_eval`) and of some
other projects. Any other gives a norm without them: call it before `onepass.torch.fuse`.
"""

_WEIGHTS = ("weight", "bias")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def held(module: nn.Module, kind: str, names: tuple[str, ...]) -> list[torch.Tensor | None]:
    """Parameters or buffers in a fifth of the time of attributes, each of which a module looks for.

    One that is not registered is an attribute: of a parametrization, a replica, a shard.
    """
    if not is_compiling():
        registered = module.__dict__[kind]
        try:
            return [registered[name] for name in names]
        except KeyError:
            pass
    return [getattr(module, name) for name in names]


class _Norm(Epilogue):
    kind: ClassVar[str] = ""

    def __init_subclass__(
        cls, *, kind: str = "", takes: str = "", arguments: str = "", example: str = "",
        shape: str = "", **options: Any,
    ) -> None:  # fmt: skip
        super().__init_subclass__(**options)
        cls.kind = kind or cls.kind
        if arguments:
            cls.__doc__ = _DOC.format(
                formula=formula(cls.kind), name=cls.__name__, kind=cls.kind, takes=takes,
                arguments=arguments, example=example, shape=shape,
                replaced=_REPLACED if issubclass(cls, TorchBatchNorm) else "",
            )  # fmt: skip

    def __init__(
        self, *arguments: Any, activation: ActivationSpec = None, dropout: float = 0.0, **rest: Any
    ) -> None:
        super().__init__(*arguments, **rest)
        self._set_epilogue(activation, dropout)


class _Running(_Norm, _NormBase):
    """Those with running statistics."""

    axes: ClassVar[tuple[int, ...]]

    def _numbers(self) -> list[float]:
        """The numbers that a kernel takes in the place of eps."""
        return [self.__dict__["eps"]]

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() not in self.axes:
            known = " or ".join(f"{n}" for n in self.axes)
            raise ValueError(
                f"{type(self).__name__}: the input has {input.dim()} axes, expected {known}"
            )
        if input.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: the input has {input.shape[1]} channels, expected "
                f"num_features, {self.num_features}"
            )

    def _norm(
        self, kind: str, x: torch.Tensor, residual: torch.Tensor | None, own: bool,
        mean: torch.Tensor | None, var: torch.Tensor | None, batches: torch.Tensor | None,
        seed: torch.Tensor | None, rest: tuple[Any, ...],
    ) -> torch.Tensor:  # fmt: skip
        """With the running statistics that are read or written, or None."""
        weight, bias = held(self, "_parameters", _WEIGHTS)
        return norm(
            x, weight, bias, mean, var, residual, seed, batches, kind, [], own, self.momentum,
            self._numbers(), *rest,
        )  # fmt: skip


def _does(caller: FrameType, functions: set[CodeType], words: tuple[str, ...]) -> bool:
    """Whether the code that reads an attribute is one of ``functions``, or one of a known project
    that is named so."""
    if caller.f_code in functions:
        return True
    project = str(caller.f_globals.get("__name__", "")).partition(".")[0]
    return project in _PROJECTS and any(word in caller.f_code.co_name for word in words)


class _BatchNorm(_Running, kind="batch_norm"):
    # Properties that `torch.jit.trace` would read of every module.
    __jit_ignored_attributes__ = ("eps", "activation")

    def _own(self) -> str:
        """Options that torch's batch norm has not; "" where there are none."""
        options = {"activation": self._activation, "dropout": self.dropout}
        return ", ".join(f"{name}={value!r}" for name, value in options.items() if value)

    @property
    def eps(self) -> float:
        """As in torch, where functions that replace a norm read it; they would drop the rest.

        Raises:
            RuntimeError: such a function reads it.
        """
        if own := self._own():
            caller = _getframe(1)
            if _does(caller, _CONVERT, _CONVERTING):
                raise RuntimeError(
                    f"{caller.f_code.co_name} would drop {own} of this {type(self).__name__}; call "
                    "it before onepass.torch.fuse, or use norms without them"
                )
            if self._activation is not None and _does(caller, _MERGE, _MERGING):
                raise RuntimeError(
                    f"{caller.f_code.co_name} would drop activation={self._activation!r} of this "
                    f"{type(self).__name__}; set its 'activation' to None and apply it behind the "
                    "merged layer"
                )
        return self.__dict__["eps"]  # type: ignore[no-any-return]

    @eps.setter
    def eps(self, value: float) -> None:
        self.__dict__["eps"] = value

    def forward(self, input: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        return self._normed(input, residual, *self._rest(input))

    def _normed(
        self, input: torch.Tensor, residual: torch.Tensor | None, seed: torch.Tensor | None,
        rest: tuple[Any, ...],
    ) -> torch.Tensor:  # fmt: skip
        """With the seed of its dropout and what `_rest` gives besides."""
        self._check_input_dim(input)
        mean, var, batches = held(self, "_buffers", _STATISTICS)
        own = self.training or mean is None or var is None
        if self.training and not self.track_running_stats:
            mean = var = None
        elif self.training and batches is not None:
            batches.add_(1)
        return self._norm(self.kind, input, residual, own, mean, var, batches, seed, rest)


_BATCH = "num_features, eps, momentum, affine, track_running_stats, device, dtype"


class BatchNorm1d(
    _BatchNorm, nn.BatchNorm1d, arguments=_BATCH, example="2", shape="3, 2",
    takes="(N, C) or (N, C, L)",
):  # fmt: skip
    axes = (2, 3)


class BatchNorm2d(
    _BatchNorm, nn.BatchNorm2d, arguments=_BATCH, example="2", shape="3, 2, 4, 4",
    takes="(N, C, H, W)",
):  # fmt: skip
    axes = (4,)


class BatchNorm3d(
    _BatchNorm, nn.BatchNorm3d, arguments=_BATCH, example="2", shape="3, 2, 4, 4, 4",
    takes="(N, C, D, H, W)",
):  # fmt: skip
    axes = (5,)


class BatchRenorm(_BatchNorm, TorchBatchNorm, kind="batch_renorm"):
    """Batch norm that trains with what evaluation does: y = (x̂·r + d)·weight + bias, per channel.

    Behind it as in `BatchNorm2d`: dropout(activation(y + residual)), in one pass. With
    σ = √(var + eps) and the running statistics before they move,
    r = clip(σ/σ_run, 1/rmax, rmax) and d = clip((mean - running_mean)/σ_run, -dmax, dmax), which
    are constants in the backward. Evaluation, running statistics and state_dicts are those of
    `torch.nn.BatchNorm2d`. ``rmax`` and ``dmax`` may be set at any time: begin with 1 and 0, which
    is batch norm, and raise them slowly. Source: Ioffe, Batch Renormalization, 2017.

    Args:
        num_features, eps, momentum, affine, device, dtype: as in `torch.nn.BatchNorm2d`; inputs are
            (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W).
        rmax: limit of r, >= 1; ``math.inf`` for none.
        dmax: limit of d, >= 0; likewise.
        activation: name of a function in ``onepass.ops``, or (name, options).
        dropout: probability of dropping an element in training.

    Example:
        >>> import torch
        >>> from onepass.torch import nn
        >>> norm = nn.BatchRenorm(1, rmax=1.5, dmax=0.5)
        >>> norm(torch.tensor([[1.0], [5.0]])).round(decimals=3).tolist()
        [[-1.0], [2.0]]
    """

    axes = (2, 3, 4, 5)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        rmax: float = 3.0,
        dmax: float = 5.0,
        activation: ActivationSpec = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, device=device, dtype=dtype, activation=activation,
            dropout=dropout,
        )  # fmt: skip
        self.rmax = numbers.in_range("BatchRenorm", "rmax", rmax, 1, most=math.inf)
        self.dmax = numbers.in_range("BatchRenorm", "dmax", dmax, 0, most=math.inf)

    def _numbers(self) -> list[float]:
        return [self.__dict__["eps"], self.rmax, self.dmax]

    def _own(self) -> str:
        return ", ".join(filter(None, [f"rmax={self.rmax}, dmax={self.dmax}", super()._own()]))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rmax={self.rmax}, dmax={self.dmax}"


class _InstanceNorm(_Running, kind="instance_norm"):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *arguments: Any,
        **rest: Any,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, *arguments, **rest
        )

    def forward(self, input: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        batched = input.dim() != self.axes[0] - 1
        if not batched:
            input = input.unsqueeze(0)
            residual = None if residual is None else residual.unsqueeze(0)
        self._check_input_dim(input)
        tracked = self.track_running_stats
        own = self.training or not tracked
        mean, var = (self.running_mean, self.running_var) if tracked else (None, None)
        kind = self.kind if own else "batch_norm"
        y = self._norm(kind, input, residual, own, mean, var, None, *self._rest(input))
        return y if batched else y.squeeze(0)


class InstanceNorm1d(
    _InstanceNorm, nn.InstanceNorm1d, arguments=_BATCH, example="2", shape="3, 2, 4",
    takes="(N, C, L) or (C, L)",
):  # fmt: skip
    axes = (3,)


class InstanceNorm2d(
    _InstanceNorm, nn.InstanceNorm2d, arguments=_BATCH, example="2", shape="3, 2, 4, 4",
    takes="(N, C, H, W) or (C, H, W)",
):  # fmt: skip
    axes = (4,)


class InstanceNorm3d(
    _InstanceNorm, nn.InstanceNorm3d, arguments=_BATCH, example="2", shape="3, 2, 4, 4, 4",
    takes="(N, C, D, H, W) or (C, D, H, W)",
):  # fmt: skip
    axes = (5,)


class _RowNorm(_Norm):
    """Those without running statistics."""

    weights: ClassVar[tuple[str, ...]] = _WEIGHTS

    def _rows(
        self, x: torch.Tensor, residual: torch.Tensor | None, size: list[int], eps: float
    ) -> torch.Tensor:
        seed, rest = self._rest(x)
        weight, *bias = held(self, "_parameters", self.weights)
        return norm(
            x, weight, bias[0] if bias else None, None, None, residual, seed, None, self.kind, size,
            True, 0.0, [eps], *rest,
        )  # fmt: skip


class LayerNorm(
    _RowNorm, nn.LayerNorm, kind="layer_norm", example="2", shape="3, 2",
    arguments="normalized_shape, eps, elementwise_affine, bias, device, dtype",
    takes="(…, *normalized_shape)",
):  # fmt: skip
    def forward(self, input: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        return self._rows(input, residual, list(self.normalized_shape), self.eps)


class RMSNorm(
    _RowNorm, nn.RMSNorm, kind="rms_norm", example="2", shape="3, 2",
    arguments="normalized_shape, eps, elementwise_affine, device, dtype",
    takes="(…, *normalized_shape)",
):  # fmt: skip
    weights = ("weight",)

    def forward(self, input: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        eps = machine_epsilon(input) if self.eps is None else self.eps
        return self._rows(input, residual, list(self.normalized_shape), eps)


class GroupNorm(
    _RowNorm, nn.GroupNorm, kind="group_norm", example="1, 2", shape="3, 2, 4",
    arguments="num_groups, num_channels, eps, affine, device, dtype", takes="(N, C, …)",
):  # fmt: skip
    def forward(self, input: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        if input.dim() < 2 or input.shape[1] != self.num_channels:
            raise ValueError(
                f"GroupNorm: the input has the shape {tuple(input.shape)}, expected (N, "
                f"{self.num_channels}, …)"
            )
        return self._rows(input, residual, [self.num_groups], self.eps)
