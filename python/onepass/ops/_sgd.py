"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onepass._array import Array
from onepass.ops._rule import Needs, Rule, State
from onepass.ops._step import StepInfo, run, shared_docs

SGD_RULE = Rule(
    "sgd",
    State("momentum_buffer", when="momentum"),
    ignored={"dampening": "momentum"},
    needs=[
        Needs(
            "nesterov",
            ("momentum", "dampening"),
            lambda momentum, dampening: momentum > 0 and dampening == 0,
            "momentum > 0 and dampening = 0",
        )
    ],
)


@shared_docs
def sgd_(
    params: Sequence[Array],
    grads: Sequence[Array | None],
    momentum_buffers: Sequence[Array] | None = None,
    *,
    step: int | Sequence[int] = 1,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    **options: Any,
) -> StepInfo:
    """g += weight_decay·p; b = momentum·b + (1 - dampening)·g; p -= lr·(g + momentum·b or b).

    The first step sets b = g. Without momentum p -= lr·g. All arrays in place, in one launch.

    Args:
        momentum_buffers: b, like ``params`` (float32 for 16-bit parameters); needed with momentum.
        dampening: of the gradient in the buffer.
        nesterov: look ahead by the momentum; needs momentum > 0 and dampening 0.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning,
    2013; PyTorch's SGD.

    Example:
        >>> p = np.float32([1.0])
        >>> info = onepass.ops.sgd_([p], [np.float32([2.0])], lr=0.25)
        >>> p
        array([0.5], dtype=float32)
    """
    return run(SGD_RULE, locals())
