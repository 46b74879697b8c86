"""Norms over rows: layer, RMS, group and instance normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from onepass import _numbers as numbers
from onepass import ops
from onepass._array import Array
from onepass._docs import continues
from onepass._parameter import Parameter
from onepass.nn._channel_norm import ChannelNorm
from onepass.nn._checks import check_dtype, like
from onepass.nn._epilogue import Epilogue
from onepass.nn._facts import Facts, bypassable
from onepass.nn._fusable import Fusable
from onepass.nn._signal import Norm

__all__ = [
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "RMSNorm",
]


class RowNorm(Norm, Fusable):
    """Common to these norms. ``weight`` and ``bias`` are a `Parameter` or None."""

    weight: Parameter | None
    bias: Parameter | None
    gradient: ClassVar[Any]  # the function of ops that goes backward
    has_bias: ClassVar[bool] = True  # gradient gives that of a bias

    def _norm(self, x: Array, options: dict[str, Any]) -> tuple[Array, Any]:
        """(y, saved) of the function of ops."""
        raise NotImplementedError

    @bypassable
    def takes_residual(self, facts: Facts[Any]) -> bool:
        return self.epilogue_head(facts) is not None

    def fused_forward(self, x: Array, epilogue: Epilogue) -> Array:
        try:
            y, saved = self._norm(x, epilogue.options(x, getattr(x, "shape", ())))
        except BaseException:
            epilogue.refused()
            raise
        self._remember((saved, epilogue))
        return y

    @bypassable
    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        saved, epilogue = self.recall()
        dx, dweight, *rest = type(self).gradient(dy, saved)
        if self.weight is not None:
            self.weight.accumulate(dweight)
        dbias = rest.pop(0) if self.has_bias else None
        if self.bias is not None:
            self.bias.accumulate(dbias)
        if rest:
            epilogue.residual_grad = rest[0]
        return dx if need_input_grad else None


def _data(parameter: Parameter | None) -> Array | None:
    return None if parameter is None else parameter.data


def _extents(owner: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    given = (normalized_shape,) if hasattr(normalized_shape, "__index__") else normalized_shape
    try:
        extents = tuple(given)
    except TypeError:
        extents = ()
    if not extents:
        raise ValueError(
            f"{owner}: normalized_shape is {normalized_shape!r}, expected an int or a tuple of ints"
        )
    return tuple(numbers.integer(owner, "normalized_shape", n, 1) for n in extents)


class LayerNorm(RowNorm):
    """``y = (x - mean) / √(var + eps) · weight + bias``, over the last axes of each sample.

    mean and var (over n) are those of each row, in training and evaluation alike.
    Source: Ba, Kiros and Hinton 2016.

    Args:
        normalized_shape: extents of the last axes, which are normalised; an int for the last one.
        eps: added to the variance, >= 0.
        elementwise_affine: False leaves weight and bias out.
        bias: False leaves the bias out.
        dtype: "float32" or "float64".

    Attributes:
        weight, bias: `Parameter` of ``normalized_shape``, ones and zeros at first, or None.

    Raises:
        TypeError: an argument is not a number; in forward and backward, not an array of floats, or
            another dtype.
        ValueError: an argument out of range; in forward, another shape.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.LayerNorm(2)(np.float32([[1, 3]])).round(3).tolist()
        [[-1.0, 1.0]]
    """

    gradient = staticmethod(ops.layer_norm_backward)

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = "float32",
    ) -> None:
        self.normalized_shape = _extents("LayerNorm", normalized_shape)
        self.eps = numbers.in_range("LayerNorm", "eps", eps, 0)
        self.elementwise_affine = elementwise_affine
        known, shape = check_dtype("LayerNorm", dtype), self.normalized_shape
        self.weight = Parameter(np.ones(shape, known)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(shape, known)) if elementwise_affine and bias else None

    def _norm(self, x: Array, options: dict[str, Any]) -> tuple[Array, Any]:
        weight, bias = _data(self.weight), _data(self.bias)
        return ops.layer_norm(x, self.normalized_shape, weight, bias, self.eps, **options)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class RMSNorm(RowNorm):
    """``y = x / √(mean(x²) + eps) · weight``, over the last axes of each sample.

    Source: Zhang and Sennrich 2019.

    Args:
        normalized_shape: extents of the last axes, which are normalised; an int for the last one.
        eps: added to the mean square, >= 0; None for the machine epsilon of the input's dtype.
        elementwise_affine: False leaves the weight out.
        dtype: "float32" or "float64".

    Attributes:
        weight: `Parameter` of ``normalized_shape``, ones at first, or None.

    Raises:
        TypeError: an argument is not a number; in forward and backward, not an array of floats, or
            another dtype.
        ValueError: an argument out of range; in forward, another shape.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.RMSNorm(2)(np.float32([[3, 4]])).round(2)
        array([[0.85, 1.13]], dtype=float32)
    """

    gradient = staticmethod(ops.rms_norm_backward)
    has_bias = False
    bias = None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: Any = "float32",
    ) -> None:
        self.normalized_shape = _extents("RMSNorm", normalized_shape)
        self.eps = None if eps is None else numbers.in_range("RMSNorm", "eps", eps, 0)
        self.elementwise_affine = elementwise_affine
        known = check_dtype("RMSNorm", dtype)
        shape = self.normalized_shape
        self.weight = Parameter(np.ones(shape, known)) if elementwise_affine else None

    def _norm(self, x: Array, options: dict[str, Any]) -> tuple[Array, Any]:
        return ops.rms_norm(x, self.normalized_shape, _data(self.weight), self.eps, **options)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class GroupNorm(RowNorm):
    """``y = (x - mean) / √(var + eps) · weight + bias``, over groups of channels of each sample.

    mean and var (over n) are those of each group, in training and evaluation alike. y is in C
    order; an x with the channels last in memory is copied to it first.
    Source: Wu and He 2018.

    Args:
        num_groups: number of groups, a divisor of ``num_channels``.
        num_channels: number of channels (axis 1).
        eps: added to the variance, >= 0.
        affine: False leaves weight and bias out.
        dtype: "float32" or "float64".

    Attributes:
        weight, bias: `Parameter` (num_channels,), ones and zeros at first, or None.

    Raises:
        TypeError: an argument is not a number; in forward and backward, not an array of floats, or
            another dtype.
        ValueError: an argument out of range; in forward, another shape, or one value a group of a
            single sample, as in PyTorch.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.GroupNorm(2, 4)(np.float32([[1, 3, 5, 5]])).round(3).tolist()
        [[-1.0, 1.0, 0.0, 0.0]]
    """

    gradient = staticmethod(ops.group_norm_backward)

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        dtype: Any = "float32",
    ) -> None:
        self.num_groups = numbers.integer("GroupNorm", "num_groups", num_groups, 1)
        self.num_channels = numbers.integer("GroupNorm", "num_channels", num_channels, 1)
        if self.num_channels % self.num_groups:
            raise ValueError(
                f"GroupNorm: num_groups is {num_groups}, expected a divisor of num_channels, which "
                f"is {num_channels}"
            )
        self.eps = numbers.in_range("GroupNorm", "eps", eps, 0)
        self.affine = affine
        known = check_dtype("GroupNorm", dtype)
        self.weight = Parameter(np.ones(num_channels, known)) if affine else None
        self.bias = Parameter(np.zeros(num_channels, known)) if affine else None

    def _norm(self, x: Array, options: dict[str, Any]) -> tuple[Array, Any]:
        shape: Any = getattr(x, "shape", ())
        if len(shape) < 2 or shape[1] != self.num_channels:
            given = like("GroupNorm", "x", x)[2]
            raise ValueError(
                f"GroupNorm: x has shape {given}, expected (N, {self.num_channels}, ...)"
            )
        weight, bias = _data(self.weight), _data(self.bias)
        return ops.group_norm(x, self.num_groups, weight, bias, self.eps, **options)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class InstanceNorm(ChannelNorm, RowNorm):
    """``y = (x - mean) / √(var + eps) · weight + bias``, over each channel of each sample.

    mean and var (over n) are those of each map. With ``track_running_stats`` training moves the
    running statistics to their averages over the batch (var over n - 1):
    ``running = (1 - momentum) running + momentum · batch``, and evaluation normalises by them. y is
    in C order; an x with the channels last in memory is copied to it first.
    Source: Ulyanov, Vedaldi and Lempitsky 2016.

    Args:
        num_features: number of channels (axis 1).
        eps: added to the variance, >= 0.
        momentum: weight of the new batch, 0 to 1.
        affine: True for weight and bias.
        track_running_stats: True for running statistics.
        dtype: "float32" or "float64".

    Attributes:
        weight, bias: `Parameter` (num_features,), ones and zeros at first, or None.
        running_mean, running_var: arrays (num_features,), zeros and ones at first, or None.
        num_batches_tracked: int64 array (), on the host, or None; stays 0, as in PyTorch.

    Raises:
        TypeError: an argument is not a number; in forward and backward, not an array of floats, or
            another dtype.
        ValueError: an argument out of range; in forward, another shape, or one value a map.
    """

    gradient = staticmethod(ops.instance_norm_backward)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        dtype: Any = "float32",
    ) -> None:
        owner = type(self).__name__
        self._make(num_features, affine, track_running_stats, dtype)
        self.eps = numbers.in_range(owner, "eps", eps, 0)
        self.momentum: float = numbers.in_range(owner, "momentum", momentum, 0, most=1)

    def _norm(self, x: Array, options: dict[str, Any]) -> tuple[Array, Any]:
        batch = self._begin(x)
        return ops.instance_norm(
            x, self.running_mean, self.running_var, _data(self.weight), _data(self.bias),
            batch, self.momentum, self.eps, **options,
        )  # fmt: skip


@continues
class InstanceNorm1d(InstanceNorm):
    """Instance norm of sequences (N, C, L).

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.InstanceNorm1d(1)(np.float32([[[1, 3]]])).round(3).tolist()
        [[[-1.0, 1.0]]]
    """

    ranks = (3,)
    shapes = "(N, C, L)"


@continues
class InstanceNorm2d(InstanceNorm):
    """Instance norm of images (N, C, H, W).

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.InstanceNorm2d(3)(np.zeros((2, 3, 4, 4), np.float32)).shape
        (2, 3, 4, 4)
    """

    ranks = (4,)
    shapes = "(N, C, H, W)"


@continues
class InstanceNorm3d(InstanceNorm):
    """Instance norm of volumes (N, C, D, H, W).

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.InstanceNorm3d(3)(np.zeros((2, 3, 4, 4, 4), np.float32)).shape
        (2, 3, 4, 4, 4)
    """

    ranks = (5,)
    shapes = "(N, C, D, H, W)"
