"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onepass.ops._sgd import SGD_RULE
from onepass.optim._optimizer import Optimizer, shared_docs


@shared_docs
class SGD(Optimizer):
    """p -= lr·(g + μ·b with Nesterov, else b), b = μ·b + (1 - dampening)·g, g += weight_decay·p.

    A parameter's first gradient sets b = g. Without momentum p -= lr·g and there is no state.

    Args:
        dampening: of the gradient in the buffer.
        nesterov: look ahead by the momentum; needs momentum > 0 and dampening 0.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning,
    2013, in PyTorch's form.

    Example:
        >>> p = np.float32([1.0])
        >>> optimizer = onepass.optim.SGD([p], lr=0.25)
        >>> info = optimizer.step([np.float32([2.0])])
        >>> p
        array([0.5], dtype=float32)
    """

    _rule = SGD_RULE

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        compat: str = "torch",
    ) -> None:
        super().__init__(params, locals())
