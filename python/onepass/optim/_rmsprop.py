"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onepass.ops._rmsprop import RMSPROP_RULE
from onepass.optim._optimizer import Optimizer, shared_docs


@shared_docs
class RMSprop(Optimizer):
    """v = α·v + (1 - α)·g², d = g/(√v + eps); p -= lr·d, or lr·b with b = momentum·b + d.

    Centred: a += (1 - α)(g - a), and v - a² stands under the root. Before that g += weight_decay·p.

    Args:
        alpha: α.
        eps: added to the root.
        centered: divide by the estimated deviation of g; the same for all groups.

    Source: Tieleman & Hinton, Lecture 6.5, 2012; Graves, Generating Sequences With Recurrent Neural
    Networks, 2013 (centred), in PyTorch's form.

    Example:
        >>> p = np.zeros(1, np.float32)
        >>> optimizer = onepass.optim.RMSprop([p], lr=0.5, alpha=0.75)
        >>> info = optimizer.step([np.float32([2.0])])
        >>> p
        array([-1.], dtype=float32)
    """

    _rule = RMSPROP_RULE

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        compat: str = "torch",
    ) -> None:
        super().__init__(params, locals())
