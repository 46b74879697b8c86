"""Decorrelated batch normalisation: whitening of groups of channels by a batch."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from onepass import _numbers as numbers
from onepass._array import Array, convert
from onepass._parameter import Parameter
from onepass.nn._checks import check_beside, check_dtype, check_gradient, like
from onepass.nn._facts import Read
from onepass.nn._module import Module
from onepass.nn._running import Running
from onepass.nn._signal import Norm


class FewValuesError(ValueError):
    """A batch with too few values per channel to whiten by."""


class _Whitening(NamedTuple):
    """The values that a training forward keeps."""

    projections: list[Array]  # P₀ to P_T, (groups, d, d)
    covariance: Array  # divided by its trace
    trace: Array  # (groups, 1, 1)


def checked_options(
    num_features: Any, num_groups: Any, iterations: Any, eps: Any, momentum: Any
) -> tuple[int, int, int, float, float]:
    """The numbers of this layer and of PyTorch's kind of it, in this order."""
    owner = "DecorrelatedBatchNorm"
    features = numbers.integer(owner, "num_features", num_features, 1)
    groups = numbers.integer(owner, "num_groups", num_groups, 1)
    if features % groups:
        raise ValueError(
            f"{owner}: num_groups is {num_groups}, expected a divisor of num_features, which is "
            f"{num_features}"
        )
    return (
        features,
        groups,
        numbers.integer(owner, "iterations", iterations, 1),
        numbers.in_range(owner, "eps", eps, above=0),
        numbers.in_range(owner, "momentum", momentum, 0, most=1),
    )


class DecorrelatedBatchNorm(Norm, Running, Module):
    """``y = Σ^(-1/2) (x - mean) · weight + bias``, over groups of channels (axis 1).

    Σ is the covariance of the d channels of a group over the batch and all positions, with ``eps``
    added to its diagonal. Its inverse root is that of ZCA whitening, by ``iterations`` steps of
    Newton and Schulz: P ← (3 P - P³ Σ/tr Σ) / 2 from P = 1, and Σ^(-1/2) ≈ P/√(tr Σ). They are
    computed in the coupled form, in which rounding errors do not grow. Backward goes through the
    iteration. Matrix products are the array library's. A float16 or bfloat16 x is computed in
    float32, and y is stored as x is.

    In training mean and Σ are those of the batch, and the running statistics move:
    ``running = (1 - momentum) running + momentum · batch``. In evaluation, and where the statistics
    are frozen, the running ones are used.
    Source: Huang et al., Decorrelated Batch Normalization, 2018; the iteration: Huang et al.,
    Iterative Normalization, 2019.

    Args:
        num_features: number of channels.
        num_groups: number of groups of neighbouring channels, a divisor of ``num_features``. A
            batch must have more values per channel than a group has channels.
        iterations: steps of the iteration; more whiten small directions more fully.
        eps: added to the variances, > 0.
        momentum: weight of the new batch, 0 to 1.
        affine: False leaves weight and bias out.
        dtype: "float32" or "float64".

    Attributes:
        weight, bias: `Parameter` (num_features,), ones and zeros at first, or None.
        running_mean: array (num_features,), zeros at first.
        running_projection: array (num_groups, d, d), the averages of Σ^(-1/2), ones on the diagonal
            at first.

    Raises:
        TypeError: an argument is not a number; in forward and backward, not an array of floats, or
            another dtype or library than the layer's.
        ValueError: an argument out of range; in forward, another shape, or too few values per
            channel in training.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> x = np.random.default_rng(0).standard_normal((500, 2)).astype(np.float32)
        >>> x[:, 1] += x[:, 0]
        >>> y = nn.DecorrelatedBatchNorm(2, iterations=9)(x)
        >>> bool(abs(np.cov(y.T, bias=True) - np.eye(2)).max() < 1e-3)
        True
    """

    buffer_names = ("running_mean", "running_projection")

    def __init__(
        self,
        num_features: int,
        num_groups: int = 1,
        iterations: int = 5,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        *,
        dtype: Any = "float32",
    ) -> None:
        self.num_features, self.num_groups, self.iterations, self.eps, self.momentum = (
            checked_options(num_features, num_groups, iterations, eps, momentum)
        )
        self.affine = affine
        known = check_dtype("DecorrelatedBatchNorm", dtype)
        width = self.num_features // self.num_groups
        self.weight = Parameter(np.ones(num_features, known)) if affine else None
        self.bias = Parameter(np.zeros(num_features, known)) if affine else None
        self.running_mean: Array = np.empty(num_features, known)
        self.running_projection: Array = np.empty((num_groups, width, width), known)
        for array, value in self.fresh_statistics():
            array[...] = value

    def _fresh(self) -> dict[str, Any]:
        projection = self.running_projection
        identity = np.broadcast_to(np.eye(projection.shape[-1]), projection.shape)
        return {"running_mean": 0, "running_projection": identity}

    def uses_batch(self, read: Read = getattr) -> bool:
        """Whether the next call takes its statistics from the batch."""
        return bool(read(self, "training")) and not read(self, "statistics_frozen")

    def forward(self, x: Array) -> Array:
        lib, dtype, shape = kind = self._check(x)
        rows = self._groups(lib, x)
        batch = self.uses_batch()
        mean = self.running_mean.reshape(self.num_groups, -1, 1)
        projection, whitening, factor = self.running_projection, None, 1.0
        if batch:
            self._check_count(rows, shape)
            mean = rows.mean(axis=2, keepdims=True)
        centred = rows - mean
        if batch:
            factor = _factor(lib, centred, self.eps)
            centred = centred if factor == 1 else centred * centred.dtype.type(factor)
            whitening, projection = self._whitening(lib, centred, factor)
            self._move(mean, projection * centred.dtype.type(factor))
        white = lib.matmul(projection, centred)
        self.saved = centred, white, projection, whitening, factor, kind
        y = white
        if self.weight is not None and self.bias is not None:
            y = white * self._of_groups(self.weight) + self._of_groups(self.bias)
        return self._back(lib, y, shape, dtype)

    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        centred, white, projection, whitening, factor, y = self.recall()
        check_gradient("DecorrelatedBatchNorm.backward", dy, y)
        lib, dtype, shape = y
        g = self._groups(lib, dy)
        if self.weight is not None and self.bias is not None:
            self.weight.accumulate((g * white).sum(axis=2).reshape(-1))
            self.bias.accumulate(g.sum(axis=2).reshape(-1))
            g = g * self._of_groups(self.weight)
        if not need_input_grad:
            return None
        dx = lib.matmul(projection.swapaxes(1, 2), g)
        if whitening is not None:
            d_projection = lib.matmul(g, centred.swapaxes(1, 2))
            slope = self._covariance_gradient(lib, whitening, d_projection)
            dx = dx + lib.matmul(slope, centred) * (2 / centred.shape[2])
            dx = (dx - dx.mean(axis=2, keepdims=True)) * centred.dtype.type(factor)
        return self._back(lib, dx, shape, dtype)

    # -- the iteration -----------------------------------------------------------------------------

    def _check_count(self, rows: Array, shape: tuple[int, ...]) -> None:
        _, width, count = rows.shape
        if count <= width:
            raise FewValuesError(
                f"DecorrelatedBatchNorm: x has shape {shape}, {count} values per channel; a group "
                f"of {width} channels needs more than {width}: train on larger batches, or use "
                "more groups"
            )

    def _whitening(self, lib: Any, centred: Array, factor: float) -> tuple[_Whitening, Array]:
        """For the backward, and Σ^(-1/2), of x·factor."""
        _, width, count = centred.shape
        real = centred.dtype.type
        one = lib.eye(width, dtype=centred.dtype)
        covariance = lib.matmul(centred, centred.swapaxes(1, 2)) / count
        covariance = covariance + one * real(self.eps * factor * factor)
        trace = lib.trace(covariance, axis1=1, axis2=2).reshape(-1, 1, 1)
        covariance = covariance / trace
        projections = [lib.zeros_like(covariance) + one]
        root = covariance
        for _ in range(self.iterations):
            step = 1.5 * one - 0.5 * lib.matmul(projections[-1], root)
            root = lib.matmul(root, step)
            projections.append(lib.matmul(step, projections[-1]))
        return _Whitening(projections, covariance, trace), projections[-1] / lib.sqrt(trace)

    def _covariance_gradient(self, lib: Any, kept: _Whitening, d_projection: Array) -> Array:
        """The gradient by the covariance, its symmetric part."""
        root = lib.sqrt(kept.trace)
        g = d_projection / root
        last = kept.projections[-1]
        d_trace = -(d_projection * last).sum(axis=(1, 2), keepdims=True) / (2 * root) / kept.trace
        s = kept.covariance
        d_s = lib.zeros_like(s)
        for p in reversed(kept.projections[:-1]):
            square = lib.matmul(p, p)
            d_s = d_s - 0.5 * lib.matmul(lib.matmul(square, p).swapaxes(1, 2), g)
            right = lib.matmul(square, s).swapaxes(1, 2)  # of P·(P²S)
            middle = lib.matmul(p, s).swapaxes(1, 2)
            left = p.swapaxes(1, 2)
            g = 1.5 * g - 0.5 * (
                lib.matmul(g, right)
                + lib.matmul(lib.matmul(left, g), middle)
                + lib.matmul(lib.matmul(square.swapaxes(1, 2), g), s.swapaxes(1, 2))
            )
        d_trace = d_trace - (d_s * s).sum(axis=(1, 2), keepdims=True) / kept.trace
        d_covariance = d_s / kept.trace + lib.eye(s.shape[1], dtype=s.dtype) * d_trace
        return 0.5 * (d_covariance + d_covariance.swapaxes(1, 2))

    # -- arrays ------------------------------------------------------------------------------------

    def _move(self, mean: Array, projection: Array) -> None:
        """The running statistics, in place."""
        m = self.momentum
        if m == 0:  # whatever the batch has, an Inf or NaN too
            return
        self.running_mean[...] = (1 - m) * self.running_mean + m * mean.reshape(-1)
        self.running_projection[...] = (1 - m) * self.running_projection + m * projection

    def _groups(self, lib: Any, x: Array) -> Array:
        """(groups, channels of a group, samples and positions), in the dtype of the layer."""
        width, own = self.num_features // self.num_groups, self.running_mean.dtype
        rows = lib.moveaxis(x, 1, 0).reshape(self.num_groups, width, -1)
        return rows if rows.dtype == own else convert(rows, own.name)

    def _back(self, lib: Any, rows: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        first = rows.reshape(shape[1], shape[0], *shape[2:])
        return lib.ascontiguousarray(lib.moveaxis(first, 0, 1)).astype(dtype, copy=False)

    def _of_groups(self, parameter: Parameter) -> Array:
        return parameter.data.reshape(self.num_groups, -1, 1)

    def _check(self, x: Array) -> Any:
        _, _, shape = kind = like("DecorrelatedBatchNorm", "x", x)
        check_beside("DecorrelatedBatchNorm", x, kind, self.running_mean)
        if not 2 <= len(shape) <= 5 or shape[1] != self.num_features:
            raise ValueError(
                f"DecorrelatedBatchNorm: x has shape {shape}, expected (N, {self.num_features}), "
                f"(N, {self.num_features}, L), (N, {self.num_features}, H, W) or "
                f"(N, {self.num_features}, D, H, W)"
            )
        return kind

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, num_groups={self.num_groups}, iterations={self.iterations}, "
            f"eps={self.eps}, momentum={self.momentum}, affine={self.affine}"
        )


def _factor(lib: Any, centred: Array, eps: float) -> float:
    """1, or the power of two that keeps the squares of unusual numbers in range, and eps beside
    them."""
    largest = max(float(lib.abs(centred).max()), math.sqrt(eps))
    if 1e-12 < largest < 1e12 or not math.isfinite(largest):
        return 1.0
    return 2.0 ** -max(-126, min(math.frexp(largest)[1], 126))
