"""Losses of elements: value and gradient in one pass over memory.

The docstring of a loss has the formula of one element, its own options, ``Source:`` and
``Example:``; `loss_of_elements` adds the text that all losses share.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from onepass import _C
from onepass._array import Array
from onepass._docs import with_imports
from onepass.ops._loss import Reduction

__all__ = [
    "bce_loss",
    "bce_with_logits",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "smooth_l1_loss",
]

F = TypeVar("F", bound=Callable[..., Any])
KERNELS = _C.pointwise_loss


def loss_of_elements(function: F) -> F:
    """Complete the docstring of a loss, whose kernel has the function's name."""
    name = function.__name__
    if name not in KERNELS:
        raise TypeError(
            f"{function.__module__}: csrc/kernels/loss_list.h has no {name!r}, expected its header "
            "among the includes and its name in Losses; build again after adding them"
        )
    head, _, rest = (inspect.getdoc(function) or "").partition("\n\nSource: ")
    formula, _, own = head.partition("\n\nArgs:\n")
    source, _, rest = rest.partition("\n\n")
    example = with_imports(rest.removeprefix("Example:"))
    if function.__doc__ is not None:  # python -OO has none
        for part, text in (("Source:", source), ("Example:", rest)):
            if not text.strip():
                raise TypeError(f"{function.__module__}: {name}: the docstring lacks {part!r}")
        batch = ', "batchmean" (the sum over the number of samples)' if name == "kl_div" else ""
        function.__doc__ = _DOC.format(
            formula=formula, own=own + "\n" if own else "", source=source, example=example,
            batch=batch,
        )  # fmt: skip
    return function


_DOC = """{formula}

Args:
    input: array of any shape and strides; float32, float64, float16 or bfloat16.
    target: like ``input``; nothing is broadcast.
{own}    reduction: "mean" over all elements, "sum"{batch} or "none".
    out: array like ``input`` for the gradient; may be ``input``.

Returns:
    (loss, dinput): loss 0-d, or like ``input`` for "none"; dinput the gradient of the loss, of its
    sum for "none". Losses are added in double, in an order that follows from the size alone. The
    mean over nothing is NaN. NaN gives NaN.

Raises:
    TypeError, ValueError: wrong dtype, shape, overlap or option; nothing is written.

Source: {source}

Example:{example}
"""


@loss_of_elements
def mse_loss(
    input: Array, target: Array, *, reduction: Reduction = "mean", out: Array | None = None
) -> tuple[Any, Array]:
    """l = (input - target)², the squared error.

    Source: Gauss, Theoria Motus, 1809; PyTorch's ``mse_loss``.

    Example:
        >>> loss, dinput = onepass.ops.mse_loss(np.float32([1, 3]), np.float32([1, 1]))
        >>> float(loss), dinput
        (2.0, array([0., 2.], dtype=float32))
    """
    return KERNELS["mse_loss"](input, target, out, reduction)


@loss_of_elements
def l1_loss(
    input: Array, target: Array, *, reduction: Reduction = "mean", out: Array | None = None
) -> tuple[Any, Array]:
    """l = |input - target|, the absolute error; its gradient is 0 where the two are equal.

    Source: Laplace, 1774; PyTorch's ``l1_loss``.

    Example:
        >>> loss, dinput = onepass.ops.l1_loss(np.float32([1, 3]), np.float32([1, 1]))
        >>> float(loss), dinput
        (1.0, array([0. , 0.5], dtype=float32))
    """
    return KERNELS["l1_loss"](input, target, out, reduction)


@loss_of_elements
def smooth_l1_loss(
    input: Array,
    target: Array,
    *,
    beta: float = 1.0,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """l = d²/(2·beta) if |d| < beta, else |d| - beta/2, with d = input - target.

    Args:
        beta: where the square ends, at least 0; 0 gives `l1_loss`.

    Source: Girshick, Fast R-CNN, 2015; PyTorch's ``smooth_l1_loss``.

    Example:
        >>> loss, dinput = onepass.ops.smooth_l1_loss(np.float32([1.5, 3]), np.float32([1, 1]))
        >>> float(loss), dinput
        (0.8125, array([0.25, 0.5 ], dtype=float32))
    """
    return KERNELS["smooth_l1_loss"](input, target, out, reduction, beta)


@loss_of_elements
def huber_loss(
    input: Array,
    target: Array,
    *,
    delta: float = 1.0,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """l = d²/2 if |d| <= delta, else delta·(|d| - delta/2), with d = input - target.

    Args:
        delta: where the square ends, above 0.

    Source: Huber, Robust Estimation of a Location Parameter, 1964; PyTorch's ``huber_loss``.

    Example:
        >>> loss, dinput = onepass.ops.huber_loss(np.float32([1.5, 3]), np.float32([1, 1]))
        >>> float(loss), dinput
        (0.8125, array([0.25, 0.5 ], dtype=float32))
    """
    return KERNELS["huber_loss"](input, target, out, reduction, delta)


@loss_of_elements
def bce_loss(
    input: Array, target: Array, *, reduction: Reduction = "mean", out: Array | None = None
) -> tuple[Any, Array]:
    """l = -(target·log(input) + (1 - target)·log(1 - input)), binary cross entropy.

    Input and target are probabilities: one outside 0 to 1 is a ValueError that says where; on CUDA,
    where nothing waits for the values, its loss and gradient are NaN. As in PyTorch a logarithm is
    at least -100, and input·(1 - input) in the gradient at least 1e-12. `bce_with_logits` takes
    logits and has no need of such limits.

    Source: Good, Rational Decisions, 1952; PyTorch's ``binary_cross_entropy``.

    Example:
        >>> loss, dinput = onepass.ops.bce_loss(np.float32([0.5, 0.75]), np.float32([1, 0]))
        >>> round(float(loss), 4), dinput
        (1.0397, array([-1.,  2.], dtype=float32))
    """
    return KERNELS["bce_loss"](input, target, out, reduction)


@loss_of_elements
def bce_with_logits(
    input: Array,
    target: Array,
    *,
    pos_weight: Array | None = None,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """l = pos_weight·target·softplus(-input) + (1 - target)·softplus(input), stable for any logit.

    Binary cross entropy of sigmoid(input).

    Args:
        pos_weight: weights of the positive class, broadcast to ``input``: (C,) is a weight for
            each class of the last axis. The dtype of ``input``, or the one it computes in.

    Source: Good, Rational Decisions, 1952; PyTorch's ``binary_cross_entropy_with_logits``.

    Example:
        >>> loss, dinput = onepass.ops.bce_with_logits(np.float32([0, 0]), np.float32([1, 0]))
        >>> round(float(loss), 4), dinput
        (0.6931, array([-0.25,  0.25], dtype=float32))
    """
    return KERNELS["bce_with_logits"](input, target, pos_weight, out, reduction)


@loss_of_elements
def kl_div(
    input: Array,
    target: Array,
    *,
    log_target: bool = False,
    reduction: Reduction | Literal["batchmean"] = "mean",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """l = target·(log(target) - input): Kullback-Leibler divergence from log-probabilities.

    ``input`` holds log-probabilities; an element with target 0 counts 0. The divergence of
    distributions is "batchmean"; "mean" divides by the number of elements, as in PyTorch.

    Args:
        log_target: whether ``target`` holds logarithms too; l = exp(target)·(target - input).

    Source: Kullback & Leibler, On Information and Sufficiency, 1951; PyTorch's ``kl_div``.

    Example:
        >>> loss, dinput = onepass.ops.kl_div(
        ...     np.log(np.float32([[0.5, 0.5]])), np.float32([[1, 0]]), reduction="batchmean"
        ... )
        >>> round(float(loss), 4), dinput + 0
        (0.6931, array([[-1.,  0.]], dtype=float32))
    """
    return KERNELS["kl_div"](input, target, out, reduction, log_target)
