"""Losses that give their gradient in the same pass."""

from __future__ import annotations

from typing import Any, Literal

from onepass import _C
from onepass._array import Array

Reduction = Literal["none", "mean", "sum"]


def cross_entropy(
    logits: Array,
    target: Array,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    weight: Array | None = None,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Softmax cross entropy and its gradient.

    With class indices t: loss_i = -w[t]·log softmax(logits)_t, and with smoothing ε the target
    (1 - ε)·onehot(t) + ε/C with weights inside the sum. "mean" divides by Σ w[t] over the samples
    that are not ignored (by the number of samples for probabilities). dlogits is the gradient of
    the loss returned, of its sum for "none".

    Args:
        logits: (N, C) or (N, C, d1, …). Arrays that are not C-contiguous are copied first.
        target: class indices (N, d1, …), any integer dtype, in [0, C) or ``ignore_index``; or
            probabilities like ``logits``.
        label_smoothing: ε in [0, 1].
        ignore_index: samples with this index give no loss and a zero gradient.
        weight: (C,) weights of the classes.
        reduction: "mean", "sum" or "none".
        out: array like ``logits`` for the gradient; may be ``logits``.

    Returns:
        (loss, dlogits): loss 0-d, or of the target's index shape for "none".

    Raises:
        IndexError: a label outside [0, C); nothing is written. On CUDA the labels are not waited
            for: the loss is then NaN, the gradient of those rows zero, and the next call on that
            device raises. With the environment variable ONEPASS_CUDA_CHECK=1 the call itself waits
            and raises.
        TypeError, ValueError: wrong dtypes, shapes or ranges.

    Source: Szegedy et al., Rethinking the Inception Architecture, 2016 (smoothing); PyTorch's
    ``cross_entropy`` semantics.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> loss, dlogits = onepass.ops.cross_entropy(np.float32([[0, 0]]), np.array([1]))
        >>> round(float(loss), 4), dlogits
        (0.6931, array([[ 0.5, -0.5]], dtype=float32))
    """
    return _C.cross_entropy(logits, target, weight, out, label_smoothing, ignore_index, reduction)
