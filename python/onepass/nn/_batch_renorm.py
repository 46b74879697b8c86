"""Batch renormalisation: batch norm whose training stays near its evaluation."""

from __future__ import annotations

import math
from typing import Any

from onepass import _numbers as numbers
from onepass import ops
from onepass.nn._batch_norm import BatchNorm


class BatchRenorm(BatchNorm):
    """``y = (x̂·r + d) · weight + bias`` with ``x̂ = (x - mean) / √(var + eps)``, per channel.

    For vectors (N, C), sequences (N, C, L), images (N, C, H, W) and volumes (N, C, D, H, W). In
    training mean and var are those of the batch, and the running statistics give, before they move,
    ``r = clip(σ/σ_run, 1/rmax, rmax)`` and ``d = clip((mean - running_mean)/σ_run, -dmax, dmax)``,
    σ = √(var + eps); both are constants in the backward pass. Evaluation, running statistics and
    ``state_dict`` are those of `BatchNorm1d`. Source: Ioffe 2017.

    ``rmax`` and ``dmax`` may be set at any time: begin with 1 and 0, which is batch norm, and raise
    them slowly while the running statistics settle, as the paper does: to 3 within 40,000 steps and
    to 5 within 25,000.

    Args:
        num_features: number of channels.
        eps: added to the variance, finite and > 0.
        momentum: weight of the new batch, 0 to 1; None gives the plain average of all batches.
        affine: False leaves weight and bias out.
        rmax: limit of r, >= 1; ``math.inf`` for none.
        dmax: limit of d, >= 0; likewise.
        dtype: "float32" or "float64".

    Attributes:
        weight, bias: `Parameter` (num_features,), ones and zeros at first, or None.
        running_mean, running_var: arrays (num_features,), zeros and ones at first.
        num_batches_tracked: int64 array (), on the host.

    Raises:
        TypeError: an argument is not a number; in forward and backward, not an array of floats, or
            another dtype.
        ValueError: an argument out of range; in forward, another shape, or a single value per
            channel in training.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> norm = nn.BatchRenorm(1, rmax=1.5, dmax=0.5)
        >>> norm(np.array([[1], [5]], np.float32)).round(3).tolist()
        [[-1.0], [2.0]]
    """

    ranks = (2, 3, 4, 5)
    shapes = "(N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W)"
    function = staticmethod(ops.batch_renorm)
    gradient = staticmethod(ops.batch_renorm_backward)
    own_options = ("rmax", "dmax")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        rmax: float = 3.0,
        dmax: float = 5.0,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, dtype=dtype)
        owner = type(self).__name__
        self.rmax = numbers.in_range(owner, "rmax", rmax, 1, most=math.inf)
        self.dmax = numbers.in_range(owner, "dmax", dmax, 0, most=math.inf)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, rmax={self.rmax}, dmax={self.dmax}"
        )
