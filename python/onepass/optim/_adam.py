"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from onepass.ops._update import adam_hyper
from onepass.optim._optimizer import Optimizer


class Adam(Optimizer):
    """m += (1 - β₁)(g - m), v = β₂v + (1 - β₂)g², p -= lr·m̂/(√v̂ + eps), g += weight_decay·p.

    m̂ = m/(1 - β₁ᵗ), v̂ = v/(1 - β₂ᵗ), t counted per parameter; with amsgrad v̂ is the running
    maximum of v, corrected.

    Args:
        params: arrays, ``nn.Parameter`` objects or group dicts.
        lr: learning rate.
        betas: (β₁, β₂).
        eps: added to √v̂.
        weight_decay: L2 penalty.
        amsgrad: the maximum of past v, the same for all groups.
        maximize: ascend instead.
        decoupled_weight_decay: p *= 1 - lr·weight_decay instead: :class:`AdamW`'s update.
        compat: whose formulas to follow.

    Raises:
        ValueError: hyper-parameters out of range, empty, duplicate or overlapping parameters.

    Source: Kingma & Ba, Adam: A Method for Stochastic Optimization, 2014; Reddi et al., 2018.

    Example:
        >>> p = np.float32([1.0])
        >>> optimizer = onepass.optim.Adam([p], lr=0.5)
        >>> info = optimizer.step([np.float32([2.0])], max_norm=1.0)
        >>> p, info.grad_norm
        (array([0.5], dtype=float32), 2.0)
    """

    _identity = ("decoupled_weight_decay",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        compat: str = "torch",
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults, compat)

    def _rule(self) -> tuple[str, tuple[str | None, ...]]:
        kernel = "adamw" if self._uniform("decoupled_weight_decay") else "adam"
        maximum = "max_exp_avg_sq" if self._uniform("amsgrad") else None
        return kernel, ("exp_avg", "exp_avg_sq", maximum)

    def _hyper(self, group: Mapping[str, Any]) -> tuple[float, ...]:
        return adam_hyper(
            self._name, group["lr"], group["betas"], group["eps"], group["weight_decay"]
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: p *= 1 - lr·weight_decay, then Adam's step.

    Args:
        params: arrays, ``nn.Parameter`` objects or group dicts.
        lr: learning rate.
        betas: (β₁, β₂).
        eps: added to √v̂.
        weight_decay: scaled by lr.
        amsgrad: the maximum of past v, the same for all groups.
        maximize: ascend instead.
        compat: whose formulas to follow.

    Raises:
        ValueError: hyper-parameters out of range, empty, duplicate or overlapping parameters.

    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization, 2017.

    Example:
        >>> p = np.float32([1.0])
        >>> optimizer = onepass.optim.AdamW([p], lr=0.5, weight_decay=0.5)
        >>> info = optimizer.step([np.float32([0.0])])
        >>> p
        array([0.75], dtype=float32)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        compat: str = "torch",
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            compat=compat,
        )
