"""NAdam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onepass._array import Array
from onepass.ops._rule import Rule
from onepass.ops._step import StepInfo, run, shared_docs

NADAM_RULE = Rule("nadam")


@shared_docs
def nadam_(
    params: Sequence[Array],
    grads: Sequence[Array | None],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    mu_products: list[Any],
    *,
    step: int | Sequence[int] = 1,
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    **options: Any,
) -> StepInfo:
    """NAdam: p -= lr·((1 - μₜ)/(1 - Pₜ)·g + μₜ₊₁/(1 - Pₜμₜ₊₁)·m)/(√v̂ + eps).

    m += (1 - β₁)(g - m), v = β₂v + (1 - β₂)g², v̂ = v/(1 - β₂ᵗ), with g += weight_decay·p before.
    μₜ = β₁(1 - 0.96^(t·momentum_decay)/2), and Pₜ is the product of all μ up to t.

    Args:
        mu_products: P, a list with a number or a 0-d array for each parameter, 1 before the first
            step; the step updates it. On a CUDA device reading it waits for the step.
        eps: added to √v̂.
        momentum_decay: how fast μ grows from β₁/2 to β₁.
        decoupled_weight_decay: p *= 1 - lr·weight_decay instead of the penalty.

    Source: Dozat, Incorporating Nesterov Momentum into Adam, 2016, in PyTorch's form.

    Example:
        >>> p, m, v = (np.zeros(1, np.float32) for _ in range(3))
        >>> products = [1.0]
        >>> info = onepass.ops.nadam_([p], [np.float32([2.0])], [m], [v], products, lr=0.5)
        >>> p.round(3), round(products[0], 4)
        (array([-0.528], dtype=float32), 0.4501)
    """
    return run(NADAM_RULE, locals())
