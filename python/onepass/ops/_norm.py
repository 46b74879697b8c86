"""Normalisation with residual, activation and dropout in the same pass."""

from __future__ import annotations

from typing import NamedTuple

from onepass import _C
from onepass._array import Array
from onepass.ops._fused import ActivationSpec, resolve


class SavedBatchNorm(NamedTuple):
    """For :func:`batch_norm_backward`: references to the inputs, and the statistics.

    Attributes:
        x: the input, as it was normalised (a copy only where ``x`` was not C-contiguous).
        statistics: (3, C): the mean, what rounding it lost, and 1/√(variance + eps).
    """

    x: Array
    weight: Array | None
    bias: Array | None
    residual: Array | None
    statistics: Array
    axis: int
    training: bool
    activation: str
    options: tuple[float, ...]
    dropout_p: float
    seed: int | Array
    offset: int | Array
    first: int


def batch_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    *,
    training: bool,
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
) -> tuple[Array, SavedBatchNorm]:
    """y = dropout(activation((x - mean)/√(var + eps)·weight + bias + residual)), per channel.

    In training, mean and var (biased) are those of the batch, and the running statistics are
    updated in place: running = (1 - momentum)·running + momentum·new, with the unbiased variance.
    Otherwise the running statistics normalise and there is no dropout. Statistics are summed in
    float64: a constant channel gives exactly ``bias`` at any magnitude. Subnormal numbers count as
    zero up to the activation, in ``bias`` and ``residual`` too.

    Args:
        x: array (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W), or with the channels last.
            An array that is not C-contiguous is copied first.
        weight: (C,) or None for 1; per-channel arrays are float32 (float64 with float64 ``x``) or
            of the dtype of ``x``.
        bias: (C,) or None for 0.
        running_mean: (C,) or None.
        running_var: (C,) or None.
        training: normalise by the batch's statistics.
        momentum: weight of the new value in the running statistics.
        eps: added to the variance, > 0; outside training 0 is allowed.
        residual: array like ``x``, added before the activation.
        activation: name of a function in ``onepass.ops``, or (name, options); None for none.
        dropout_p: probability of dropping an element; 0 draws nothing.
        seed: as in :func:`onepass.ops.dropout`.
        offset: as in :func:`onepass.ops.dropout`.
        first: as in :func:`onepass.ops.dropout`.
        channels_last: the channels are the last axis of ``x``.
        out: array like ``x`` to write to; may not be ``x``, which the backward needs.

    Returns:
        (y, saved): y like ``x``; saved for :func:`batch_norm_backward`.

    Raises:
        ValueError: one value per channel in training, momentum None, no running statistics outside
            training, wrong shapes or ranges; nothing is written.
        TypeError: wrong dtypes.

    Source: Ioffe & Szegedy, Batch Normalization, 2015, in PyTorch's convention.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> y, saved = onepass.ops.batch_norm(
        ...     np.float32([[1], [3]]), None, None, None, None, training=True)
        >>> y.round(3)
        array([[-1.],
               [ 1.]], dtype=float32)
    """
    name, options = resolve("batch_norm", activation)
    y, saved = _C.batch_norm(
        x, weight, bias, running_mean, running_var, residual, out, -1 if channels_last else 1,
        training, momentum, eps, name, options, dropout_p, seed, offset, first,
    )  # fmt: skip
    return y, tuple.__new__(SavedBatchNorm, saved)


def batch_norm_backward(
    dy: Array, saved: SavedBatchNorm, *, add: Array | None = None, out: Array | None = None
) -> tuple[Array | None, ...]:
    """Gradients of :func:`batch_norm`.

    With g = activation'(z)·dropout'(dy) and x̂ the normalised input: dbias = Σg, dweight = Σg·x̂,
    dresidual = g, and dx = weight/√(var + eps)·(g - mean(g) - x̂·mean(g·x̂)) in training,
    weight/√(running_var + eps)·g otherwise. Everything is recomputed from ``x``; no mask is stored.

    Args:
        dy: gradient of y, like ``x``.
        saved: from :func:`batch_norm`. weight, bias and residual are read again.
        add: array like ``x`` to which dx is added, in the same pass: the gradient of ``x`` by
            another path, such as a shortcut. The result is rounded once.
        out: array like ``x`` for dx; may be ``dy`` or ``add``.

    Returns:
        (dx, dweight, dbias), None where there was none, and dresidual as a fourth where a residual
        was given. dweight and dbias are float32 (float64 for float64 ``x``).

    Raises:
        TypeError, ValueError: ``dy`` or ``add`` of another shape or dtype than ``x``.

    Source: Ioffe & Szegedy, Batch Normalization, 2015.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> x = np.float32([[1], [3]])
        >>> y, saved = onepass.ops.batch_norm(x, None, None, None, None, training=True)
        >>> dx, dweight, dbias = onepass.ops.batch_norm_backward(np.ones_like(x), saved)
        >>> dx
        array([[0.],
               [0.]], dtype=float32)
    """
    check_saved("batch_norm", saved, SavedBatchNorm)
    return _C.batch_norm_backward(dy, *saved, out, add)


def check_saved(op: str, saved: object, kind: type) -> None:
    """Refuses what another function than ``op`` saved."""
    if type(saved) is not kind:
        raise TypeError(
            f"{op}_backward: 'saved' is {type(saved).__name__}, expected the second result of {op}"
        )
