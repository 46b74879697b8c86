"""Decorrelated batch normalisation: whitening of groups of channels, in operations of PyTorch."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from onepass.nn._decorrelated import checked_options
from onepass.torch.nn._loss import is_cast
from onepass.torch.nn._norm_function import is_channels_last


class DecorrelatedBatchNorm(nn.Module):
    """y = Σ^(-1/2) (x - mean) · weight + bias, over groups of channels of (N, C, …).

    Σ is the covariance of the d channels of a group over the batch and all positions, with ``eps``
    added to its diagonal. Its inverse root is that of ZCA whitening, by ``iterations`` steps of
    Newton and Schulz from the unit matrix, which the backward goes through: input, result and the
    matrices of the steps are kept for the backward. Matrix products are PyTorch's; 16 bits are
    computed in float32, also under autocast.

    In training mean and Σ are those of the batch, and the running statistics move:
    ``running = (1 - momentum) running + momentum · batch``. In evaluation the running ones are
    used. The state_dict is that of `onepass.nn.DecorrelatedBatchNorm`.
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
        device, dtype: as in torch's norms.

    Raises:
        ValueError: in forward, another shape than (N, num_features), (N, num_features, L),
            (N, num_features, H, W) or (N, num_features, D, H, W); too few values per channel in
            training.
        TypeError: in forward, a float64 input for a layer of another dtype, or the reverse.

    Example:
        >>> import torch
        >>> from onepass.torch import nn
        >>> x = torch.randn(500, 2) @ torch.tensor([[1.0, 1.0], [0.0, 1.0]])
        >>> y = nn.DecorrelatedBatchNorm(2, iterations=9)(x)
        >>> bool((y.T.cov(correction=0) - torch.eye(2)).abs().max() < 1e-3)
        True
    """

    running_mean: torch.Tensor
    running_projection: torch.Tensor

    def __init__(
        self,
        num_features: int,
        num_groups: int = 1,
        iterations: int = 5,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_features, self.num_groups, self.iterations, self.eps, self.momentum = (
            checked_options(num_features, num_groups, iterations, eps, momentum)
        )
        self.affine = affine
        width = self.num_features // self.num_groups
        like = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(num_features, **like)) if affine else None
        self.bias = nn.Parameter(torch.empty(num_features, **like)) if affine else None
        self.register_buffer("running_mean", torch.empty(num_features, **like))
        self.register_buffer("running_projection", torch.empty(num_groups, width, width, **like))
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """The statistics of no batch: a mean of 0, the unit matrix."""
        with torch.no_grad():
            self.running_mean.zero_()
            projection = self.running_projection
            projection.copy_(
                torch.eye(projection.shape[1], dtype=projection.dtype, device=projection.device)
            )

    def reset_parameters(self) -> None:
        """A weight of 1, a bias of 0, and the statistics of no batch."""
        self.reset_running_stats()
        if self.weight is not None and self.bias is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        self._check(input)
        exact = torch.autocast(input.device.type, enabled=False) if is_cast(input) else None
        with exact or nullcontext():
            wide = input if input.dtype is torch.float64 else input.float()
            white = self._whitened(wide.movedim(1, 0).reshape(self._groups))
            if self.weight is not None and self.bias is not None:
                weight, bias = (p.to(wide.dtype).view(*self._groups[:2], 1)
                                for p in (self.weight, self.bias))  # fmt: skip
                white = white * weight + bias
        y = white.reshape(self.num_features, input.shape[0], *input.shape[2:]).to(input.dtype)
        if is_channels_last(input):
            return y.movedim(0, -1).contiguous().movedim(-1, 1)
        return y.movedim(0, 1).contiguous()

    @property
    def _groups(self) -> tuple[int, int, int]:
        """(groups, channels of a group, samples and positions)."""
        return self.num_groups, self.num_features // self.num_groups, -1

    def _whitened(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            mean = self.running_mean.to(x.dtype).view(self._groups)
            return self.running_projection.to(x.dtype) @ (x - mean)
        mean = x.mean(2, keepdim=True)
        centred = x - mean
        factor = _factor(centred.detach(), self.eps)
        centred = centred * factor
        projection = self._projection(centred, self.eps * factor * factor)
        with torch.no_grad():
            self.running_mean.lerp_(mean.view(-1).to(self.running_mean.dtype), self.momentum)
            batch = (projection * factor).to(self.running_projection.dtype)
            self.running_projection.lerp_(batch, self.momentum)
        return projection @ centred

    def _projection(self, centred: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        """Σ^(-1/2), by the coupled form of the iteration, in which rounding errors do not grow."""
        _, width, count = centred.shape
        one = torch.eye(width, dtype=centred.dtype, device=centred.device)
        covariance = centred @ centred.transpose(1, 2) / count + one * eps
        trace = covariance.diagonal(dim1=1, dim2=2).sum(1).view(-1, 1, 1)
        root = covariance / trace
        projection = one.expand_as(root)
        for _ in range(self.iterations):
            step = 1.5 * one - 0.5 * (projection @ root)
            root = root @ step
            projection = step @ projection
        return projection / trace.sqrt()

    def _check(self, x: torch.Tensor) -> None:
        if not 2 <= x.dim() <= 5 or x.shape[1] != self.num_features:
            n = self.num_features
            raise ValueError(
                f"DecorrelatedBatchNorm: the input has the shape {tuple(x.shape)}, expected "
                f"(N, {n}), (N, {n}, L), (N, {n}, H, W) or (N, {n}, D, H, W)"
            )
        own = self.running_mean.dtype
        if not x.is_floating_point() or (x.dtype is torch.float64) != (own is torch.float64):
            raise TypeError(
                f"DecorrelatedBatchNorm: the input is {x.dtype}, expected {own} like the layer: "
                "convert one of them with to()"
            )
        width, count = self._groups[1], x.numel() // self.num_features
        if self.training and count <= width:
            raise ValueError(
                f"DecorrelatedBatchNorm: the input has the shape {tuple(x.shape)}, {count} values "
                f"per channel; a group of {width} channels needs more than {width}: train on "
                "larger batches, or use more groups"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, num_groups={self.num_groups}, iterations={self.iterations}, "
            f"eps={self.eps}, momentum={self.momentum}, affine={self.affine}"
        )


def _factor(centred: torch.Tensor, eps: float) -> torch.Tensor:
    """1, or the power of two that keeps the squares of unusual numbers in range, and eps beside
    them."""
    largest = centred.abs().amax().clamp(min=math.sqrt(eps))
    usual = ((largest > 1e-12) & (largest < 1e12)) | ~largest.isfinite()
    one = torch.ones_like(largest)
    power = torch.frexp(largest).exponent.clamp(-126, 126)
    return torch.where(usual, one, torch.ldexp(one, -power))
