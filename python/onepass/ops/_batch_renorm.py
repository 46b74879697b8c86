"""Batch renormalisation with residual, activation and dropout in the same pass."""

from __future__ import annotations

from onepass import _C
from onepass._array import Array
from onepass._docs import parts, shares
from onepass.ops._fused import ActivationSpec, resolve
from onepass.ops._norm import SavedBatchNorm, batch_norm, batch_norm_backward, check_saved

_ARGS = parts(batch_norm.__doc__ or "")[2]
_BACKWARD_ARGS = parts(batch_norm_backward.__doc__ or "")[2]


class SavedBatchRenorm(SavedBatchNorm):
    """For :func:`batch_renorm_backward`: as `SavedBatchNorm`, statistics of another shape.

    Attributes:
        statistics: (5, C): the mean, what rounding it lost, 1/√(variance + eps), r and d.
    """

    __slots__ = ()


@shares(_ARGS)
def batch_renorm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array,
    running_var: Array,
    *,
    training: bool,
    rmax: float = 3.0,
    dmax: float = 5.0,
    momentum: float = 0.1,
    eps: float = 1e-5,
    residual: Array | None = None,
    activation: ActivationSpec = None,
    dropout_p: float = 0.0,
    seed: int | Array = 0,
    offset: int | Array = 0,
    first: int = 0,
    channels_last: bool = False,
    out: Array | None = None,
) -> tuple[Array, SavedBatchRenorm]:
    """y = dropout(activation((x̂·r + d)·weight + bias + residual)), per channel.

    In training x̂ = (x - mean)/σ, with mean and σ = √(var + eps) of the batch as in
    :func:`batch_norm`, and r and d bring it to what the running statistics would give, within
    limits: with σ_run = √(running_var + eps),

        r = clip(σ/σ_run, 1/rmax, rmax),  d = clip((mean - running_mean)/σ_run, -dmax, dmax)

    They are taken from the running statistics before these move, which they do as in
    :func:`batch_norm`, and are constants in the backward pass. With rmax = 1 and dmax = 0 this is
    :func:`batch_norm`; without limits y is what evaluation gives. Evaluation is
    :func:`batch_norm`'s. Training with small or dependent batches gains; it usually begins with 1
    and 0 and raises the limits slowly, while the running statistics settle.

    Args:
        running_mean: (C,).
        running_var: (C,).
        training: normalise by the batch's statistics, r and d.
        rmax: limit of r, >= 1; ``math.inf`` for none, though r and d stay finite. It may differ
            from call to call.
        dmax: limit of d, >= 0, likewise.

    Returns:
        (y, saved): y like ``x``; saved for :func:`batch_renorm_backward`.

    Raises:
        ValueError: one value per channel in training, momentum None, wrong shapes or ranges;
            nothing is written.
        TypeError: wrong dtypes, no running statistics; likewise.

    Source: Ioffe, Batch Renormalization, 2017.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> mean, var = np.zeros(1, np.float32), np.ones(1, np.float32)
        >>> y, saved = onepass.ops.batch_renorm(
        ...     np.float32([[1], [5]]), None, None, mean, var, training=True, rmax=1.5, dmax=0.5)
        >>> y.round(3)  # x̂ = ±1, r = 1.5 for 2, d = 0.5 for 3
        array([[-1.],
               [ 2.]], dtype=float32)
    """
    name, options = resolve("batch_renorm", activation)
    y, saved = _C.batch_renorm(
        x, weight, bias, running_mean, running_var, residual, out, -1 if channels_last else 1,
        training, momentum, eps, rmax, dmax, name, options, dropout_p, seed, offset, first,
    )  # fmt: skip
    return y, tuple.__new__(SavedBatchRenorm, saved)


@shares(_BACKWARD_ARGS)
def batch_renorm_backward(
    dy: Array, saved: SavedBatchRenorm, *, add: Array | None = None, out: Array | None = None
) -> tuple[Array | None, ...]:
    """Gradients of :func:`batch_renorm`.

    With g = activation'(z)·dropout'(dy): dbias = Σg, dweight = r·Σg·x̂ + d·Σg, dresidual = g, and
    dx = weight·r/σ·(g - mean(g) - x̂·mean(g·x̂)) in training. Outside training they are those of
    :func:`batch_norm_backward`. Everything is recomputed from ``x``; no mask is stored.

    Args:
        saved: from :func:`batch_renorm`. weight, bias and residual are read again.

    Returns:
        (dx, dweight, dbias), None where there was none, and dresidual as a fourth where a residual
        was given. dweight and dbias are float32 (float64 for float64 ``x``).

    Raises:
        TypeError, ValueError: ``dy`` or ``add`` of another shape or dtype than ``x``, or ``saved``
            of another function.

    Source: Ioffe, Batch Renormalization, 2017.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> mean, var = np.zeros(1, np.float32), np.ones(1, np.float32)
        >>> x, weight = np.float32([[1], [5]]), np.ones(1, np.float32)
        >>> y, saved = onepass.ops.batch_renorm(
        ...     x, weight, None, mean, var, training=True, rmax=1.5, dmax=0.5)
        >>> dx, dweight, dbias = onepass.ops.batch_renorm_backward(np.ones_like(x), saved)
        >>> dweight  # x̂·r adds up to 0, d twice to 1
        array([1.], dtype=float32)
    """
    check_saved("batch_renorm", saved, SavedBatchRenorm)
    return _C.batch_renorm_backward(dy, *saved, out, add)
