"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from onepass.ops._update import sgd_hyper
from onepass.optim._optimizer import Optimizer


class SGD(Optimizer):
    """p -= lr·(g + μ·b with Nesterov, else b), b = μ·b + (1 - dampening)·g, g += weight_decay·p.

    A parameter's first gradient sets b = g. Without momentum p -= lr·g and there is no state.

    Args:
        params: arrays, ``nn.Parameter`` objects or group dicts.
        lr: learning rate.
        momentum: μ.
        dampening: of the gradient in the buffer.
        weight_decay: L2 penalty.
        nesterov: look ahead by the momentum; needs momentum > 0 and dampening 0.
        maximize: ascend instead.
        compat: whose formulas to follow.

    Raises:
        ValueError: hyper-parameters out of range, empty, duplicate or overlapping parameters.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning,
    2013, in PyTorch's form.

    Example:
        >>> p = np.float32([1.0])
        >>> optimizer = onepass.optim.SGD([p], lr=0.25)
        >>> info = optimizer.step([np.float32([2.0])])
        >>> p
        array([0.5], dtype=float32)
    """

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
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults, compat)

    def _rule(self) -> tuple[str, tuple[str | None, ...]]:
        if any(group["momentum"] != 0 for group in self.param_groups):
            return "sgd", ("momentum_buffer",)
        return "sgd", (None,)

    def _hyper(self, group: Mapping[str, Any]) -> tuple[float, ...]:
        return sgd_hyper(
            self._name,
            group["lr"],
            group["momentum"],
            group["dampening"],
            group["weight_decay"],
            group["nesterov"],
        )
