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
    the loss returned, of its sum for "none". It is rounded to the dtype of ``logits``: of float16
    what is below 3e-8 becomes 0, and no later scaling brings it back.

    Args:
        logits: (N, C) or (N, C, d1, …). Arrays that are not C-contiguous are copied first.
        target: class indices (N, d1, …), any integer dtype, in [0, C) or ``ignore_index``; or
            probabilities like ``logits``.
        label_smoothing: ε in [0, 1].
        ignore_index: samples with this index give no loss and a zero gradient; below 0 where target
            holds probabilities.
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


def nll_loss(
    input: Array,
    target: Array,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """l = -weight[target]·input[target], the negative log-likelihood of log-probabilities.

    "mean" divides by Σ weight[target] over the samples that are not ignored. `cross_entropy` takes
    logits, and is this behind log-softmax in one pass.

    Args:
        input: log-probabilities (N, C) or (N, C, d1, …). Arrays that are not C-contiguous are
            copied first.
        target: class indices (N, d1, …), any integer dtype, in [0, C) or ``ignore_index``.
        weight: (C,) weights of the classes.
        ignore_index: samples with this index give no loss and a zero gradient.
        reduction: "mean", "sum" or "none".
        out: array like ``input`` for the gradient; may be ``input``.

    Returns:
        (loss, dinput): loss 0-d, or shaped as ``target`` for "none"; dinput the gradient of the
        loss, of its sum for "none".

    Raises:
        IndexError: a label outside [0, C), as in `cross_entropy`.
        TypeError, ValueError: wrong dtypes or shapes; nothing is written.

    Source: PyTorch's ``nll_loss``.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> p = np.log(np.float32([[0.5, 0.5]]))
        >>> loss, dinput = onepass.ops.nll_loss(p, np.array([1]))
        >>> round(float(loss), 4), dinput
        (0.6931, array([[ 0., -1.]], dtype=float32))
    """
    return _C.nll_loss(input, target, weight, out, ignore_index, reduction)


def wasserstein_1d(
    input: Array, target: Array, *, reduction: Reduction = "mean", out: Array | None = None
) -> tuple[Any, Array]:
    """l = Σ_k |D_k| with D = cumsum(input - target) along the last axis: earth mover's distance.

    For histograms of equal sums on a line it is the least mass times bins that takes one to the
    other. Sums are taken in double. Where D_k is 0, its part of the gradient is 0.

    Args:
        input: histograms (…, bins). Arrays that are not C-contiguous are copied first.
        target: like ``input``.
        reduction: "mean" over the rows, "sum" or "none".
        out: array like ``input`` for the gradient; may be ``input``.

    Returns:
        (loss, dinput): loss 0-d, or a loss for each row for "none"; dinput the gradient of the
        loss, of its sum for "none".

    Raises:
        TypeError, ValueError: wrong dtypes or shapes; nothing is written.

    Source: Vaserstein, Markov Processes over Denumerable Products of Spaces, 1969; SciPy's
    ``wasserstein_distance`` of bins that lie 1 apart.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> loss, dinput = onepass.ops.wasserstein_1d(
        ...     np.float32([[1, 0, 0]]), np.float32([[0, 0, 1]])
        ... )
        >>> float(loss), dinput
        (2.0, array([[2., 1., 0.]], dtype=float32))
    """
    return _C.wasserstein_1d(input, target, out, reduction)
