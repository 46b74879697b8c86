"""Softmax cross entropy with its gradient in one pass, differentiable."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onepass import _numbers as numbers
from onepass.jax._checks import computing, floating, per_channel, same
from onepass.jax._targets import NOTHING, call, like, result, together

REDUCTIONS = ("none", "mean", "sum")  # in the order of csrc/core/backend.h


class Spec(NamedTuple):
    """What a loss is compiled for."""

    reduction: str
    label_smoothing: float
    ignore_index: int
    probabilities: bool  # else class indices


def _called(
    spec: Spec, logits: jax.Array, target: jax.Array, weight: jax.Array | None, gradient: bool
) -> list[jax.Array]:
    reduced = spec.reduction != "none"
    rows = (logits.shape[0], *logits.shape[2:])
    loss = result((), computing(logits)) if reduced else result(rows, logits.dtype)
    return call(
        "cross_entropy", "cross_entropy", [loss, *([like(logits)] if gradient else [])], logits,
        target, NOTHING if weight is None else weight, given=int(weight is not None),
        reduction=REDUCTIONS.index(spec.reduction), label_smoothing=spec.label_smoothing,
        ignore_index=spec.ignore_index, probabilities=int(spec.probabilities),
    )  # fmt: skip


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _crossed(
    spec: Spec, logits: jax.Array, target: jax.Array, weight: jax.Array | None
) -> jax.Array:
    return _called(spec, logits, target, weight, gradient=False)[0]


def _crossed_forward(
    spec: Spec, logits: jax.Array, target: jax.Array, weight: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    loss, gradient = _called(spec, logits, target, weight, gradient=True)
    return loss, gradient


def _crossed_backward(
    spec: Spec, gradient: jax.Array, dloss: jax.Array
) -> tuple[jax.Array, None, None]:
    if spec.reduction == "none":
        dloss = jnp.expand_dims(dloss, 1)
    # In the wider type of the two, that of a reduced loss.
    return (gradient.astype(dloss.dtype) * dloss).astype(gradient.dtype), None, None


_crossed.defvjp(_crossed_forward, _crossed_backward)


def cross_entropy(
    logits: Any,
    target: Any,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    weight: Any = None,
    reduction: Literal["none", "mean", "sum"] = "mean",
) -> jax.Array:
    """Softmax cross entropy: -w[t]·log softmax(logits)_t, as `onepass.ops.cross_entropy`.

    One pass gives the loss and, where it is differentiated, its gradient in the dtype of
    ``logits``, which the backward multiplies by that of the loss: scaling the loss does not bring
    back what float16 has rounded to zero by then, below 3e-8; logits of float32 lose nothing. Under
    `jax.vmap` each element of the batch is a call of its own: ``reduction="none"`` needs no vmap.

    Args:
        logits: (N, C) or (N, C, d1, …).
        target: class indices (N, d1, …), any integer dtype, in [0, C) or ``ignore_index``, within
            the 32 bits that JAX keeps without ``jax_enable_x64``; or probabilities like ``logits``.
            It gets no gradient, nor does ``weight``.
        label_smoothing: ε in [0, 1]: the target becomes (1 - ε)·target + ε/C.
        ignore_index: samples with this index give no loss and a zero gradient; below 0 where target
            holds probabilities.
        weight: (C,) weights of the classes.
        reduction: "mean", over Σ w[t] of the samples that are not ignored, "sum" or "none".

    Returns:
        The loss, without axes, or shaped as the class indices for "none".

    Raises:
        TypeError, ValueError: wrong dtypes, shapes or ranges. A label outside [0, C) is an error of
            XLA, when the call runs.

    Source: Szegedy et al., Rethinking the Inception Architecture, 2016 (smoothing); PyTorch's
    ``cross_entropy`` semantics.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import onepass.jax
        >>> logits, target = np.float32([[0, 0]]), np.array([1])
        >>> loss, dlogits = jax.value_and_grad(onepass.jax.cross_entropy)(logits, target)
        >>> round(float(loss), 4), dlogits.tolist()
        (0.6931, [[0.5, -0.5]])
    """
    op = "cross_entropy"
    logits = floating(op, "logits", logits)
    if logits.ndim < 2 or logits.shape[1] == 0:
        raise ValueError(
            f"{op}: 'logits' has shape {logits.shape}, expected (N, C) or (N, C, d1, …) with C > 0"
        )
    numbers.one_of(op, "reduction", reduction, REDUCTIONS)
    spec = Spec(
        reduction,
        numbers.in_range(op, "label_smoothing", label_smoothing, 0, most=1),
        numbers.integer(op, "ignore_index", ignore_index, -(2**63), 2**63),
        False,
    )
    weight = per_channel(op, "weight", weight, logits, logits.shape[1:2])
    target = _as_jax_has_it(op, target)
    if jnp.issubdtype(target.dtype, jnp.integer):
        rows = (logits.shape[0], *logits.shape[2:])
        if target.shape != rows:
            raise ValueError(f"{op}: 'target' has shape {target.shape}, expected {rows}")
        # Of which XLA has several in a byte, or one.
        if target.dtype.name.removeprefix("u") in ("int1", "int2", "int4"):
            target = target.astype(np.int8)
        return _crossed(spec, *together(logits, target, weight))
    target = same(op, "target", target, logits)
    if spec.ignore_index >= 0:
        raise ValueError(
            f"{op}: 'ignore_index' is {ignore_index}, expected a negative one, such as the "
            "default, where target holds probabilities; a weight of 0 leaves a class out"
        )
    return _crossed(spec._replace(probabilities=True), *together(logits, target, weight))


def _as_jax_has_it(op: str, target: Any) -> jax.Array:
    """As an array of JAX, which without x64 drops the upper half of 64 bits."""
    if isinstance(target, jax.Array):
        return target
    given = np.asarray(target)
    array = jnp.asarray(given)
    if given.dtype.kind not in "iu":
        return array
    lost = np.flatnonzero(given != given.astype(array.dtype))
    if lost.size > 0:
        raise ValueError(
            f"{op}: 'target' holds {given.ravel()[lost[0]]} at element {lost[0]}, expected labels "
            f"of {array.dtype}, which JAX keeps without jax_enable_x64"
        )
    return array
