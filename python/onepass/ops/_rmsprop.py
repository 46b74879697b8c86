"""RMSprop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onepass._array import Array
from onepass.ops._rule import Rule, State
from onepass.ops._step import StepInfo, run, shared_docs

RMSPROP_RULE = Rule(
    "rmsprop",
    State("momentum_buffer", when="momentum"),
    State("grad_avg", when="centered"),
)


@shared_docs
def rmsprop_(
    params: Sequence[Array],
    grads: Sequence[Array | None],
    square_avgs: Sequence[Array],
    momentum_buffers: Sequence[Array] | None = None,
    grad_avgs: Sequence[Array] | None = None,
    *,
    step: int | Sequence[int] = 1,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    **options: Any,
) -> StepInfo:
    """RMSprop: v = α·v + (1 - α)·g², d = g/(√v + eps); p -= lr·d, or lr·b with b = momentum·b + d.

    With ``grad_avgs`` (centred) a += (1 - α)(g - a), and v - a² stands under the root. Before that
    g += weight_decay·p. All arrays in place, in one launch.

    Args:
        square_avgs: v, like ``params`` (float32 for 16-bit parameters).
        momentum_buffers: b, likewise; needed with momentum.
        grad_avgs: a, likewise; None for plain RMSprop.
        alpha: α.
        eps: added to the root.

    Source: Tieleman & Hinton, Lecture 6.5, 2012; Graves, Generating Sequences With Recurrent Neural
    Networks, 2013 (centred); PyTorch's RMSprop.

    Example:
        >>> p, v = np.zeros(1, np.float32), np.zeros(1, np.float32)
        >>> info = onepass.ops.rmsprop_([p], [np.float32([2.0])], [v], lr=0.5, alpha=0.75)
        >>> p
        array([-1.], dtype=float32)
    """
    return run(RMSPROP_RULE, locals())
